from tools.settings import PAGE, document


def test_the_page_of_settings_tells_what_the_code_reads() -> None:
    assert PAGE.read_text(encoding="utf-8") == document(), "./task openapi writes it"
