"""A facility's OpenID provider, made of Authlib's server framework, on a kernel-chosen port."""

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import flask
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import UserInfo
from authlib.oidc.core.grants import OpenIDCode
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from werkzeug.serving import BaseWSGIServer, make_server

__all__ = ["CLIENT", "SECRET", "ProviderServer", "facility_provider"]

CLIENT = "sluice-web"
SECRET = uuid4().hex
AUDIENCE = "https://sluice.test/api"

Algorithm = Literal["RS256", "ES256"]
Key = RSAKey | ECKey


@dataclass
class _Client(ClientMixin):
    method: str

    def get_client_id(self) -> str:
        return CLIENT

    def get_default_redirect_uri(self) -> str:
        return ""

    def get_allowed_scope(self, scope: Collection[str] | str) -> str:
        return scope if isinstance(scope, str) else " ".join(scope)

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri.endswith("/api/auth/oidc/callback")

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.method

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class _Code(AuthorizationCodeMixin):
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str
    code_challenge_method: str
    user: dict[str, Any]

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> None:
        return None

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


class ProviderServer:
    """An OpenID provider at which somebody is logged in already.

    Attributes
    ----------
    issuer
        Its URL.
    somebody
        Claims of who is logged in; nobody when empty: he has refused.
    in_token
        Whether ID tokens hold all claims; else ``userinfo`` has them, as providers may.
    overwritten
        Claims of ID tokens that are otherwise than they should be.
    method
        How a client proves who it is.
    asked
        How often a path was.
    """

    def __init__(self) -> None:
        self.somebody: dict[str, Any] = {}
        self.in_token = True
        self.method = "client_secret_basic"
        self.asked: Counter[str] = Counter()
        self.overwritten: dict[str, Any] = {}
        self._keys: dict[Algorithm, Key] = {}
        self._codes: dict[str, _Code] = {}
        self._tokens: dict[str, dict[str, Any]] = {}
        self._port = 0
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None
        self.rotate()
        self._app = self._make_app()
        self.start()

    @property
    def issuer(self) -> str:
        """Its URL, which stays the same when it is stopped and started."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Answer."""
        self._server = make_server("127.0.0.1", self._port, self._app, threaded=True)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="provider")
        self._thread.start()

    def stop(self) -> None:
        """Answer no more, until it is started again."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = self._thread = None

    def rotate(self) -> None:
        """Sign with new keys from now on, and tell of no other."""
        self._keys = {
            "RS256": RSAKey.generate_key(2048, {"kid": uuid4().hex, "use": "sig"}),
            "ES256": ECKey.generate_key("P-256", {"kid": uuid4().hex, "use": "sig"}),
        }

    def key(self, algorithm: Algorithm = "RS256") -> Key:
        """Return the private key that signs in this algorithm."""
        return self._keys[algorithm]

    def token(self, algorithm: Algorithm = "RS256", *, header: dict[str, Any] | None = None, **changed: Any) -> str:
        """Return an access token as of ``ada``, who is in the group ``physics``.

        Parameters
        ----------
        header
            Members of the header that are otherwise; None takes one away, as in ``changed``.
        changed
            Claims that are otherwise.
        """
        now, key = int(time.time()), self._keys[algorithm]
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "4711",
            "iat": now,
            "exp": now + 600,
            "jti": uuid4().hex,
            "preferred_username": "ada",
            "groups": ["physics"],
        }
        claims = {name: value for name, value in (claims | changed).items() if value is not None}
        said = {"alg": algorithm, "kid": key.kid, "typ": "at+jwt", **(header or {})}
        return jwt.encode({name: value for name, value in said.items() if value is not None}, claims, key)

    def _make_app(self) -> flask.Flask:
        app = flask.Flask(__name__)
        oauth = AuthorizationServer(app, lambda _: _Client(self.method), self._keep_token)
        provider = self

        class Grant(AuthorizationCodeGrant):
            TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

            def save_authorization_code(self, code: str, request: Any) -> None:
                data = request.payload.data
                provider._codes[code] = _Code(
                    data["redirect_uri"],
                    data["scope"],
                    data.get("nonce"),
                    data["code_challenge"],
                    data["code_challenge_method"],
                    request.user,
                )

            def query_authorization_code(self, code: str, client: Any) -> _Code | None:
                return provider._codes.get(code)

            def delete_authorization_code(self, authorization_code: _Code) -> None:
                provider._codes = {key: each for key, each in provider._codes.items() if each is not authorization_code}

            def authenticate_user(self, authorization_code: _Code) -> dict[str, Any]:
                return authorization_code.user

        class IdToken(OpenIDCode):
            def exists_nonce(self, nonce: str, request: Any) -> bool:
                return False

            def resolve_client_private_key(self, client: Any) -> Key:
                return provider.key()

            def get_client_claims(self, client: Any) -> dict[str, Any]:
                return {"iss": provider.issuer}

            def get_encode_header(self, client: Any) -> dict[str, Any]:
                return {"alg": "RS256", "kid": provider.key().kid}

            def generate_user_info(self, user: dict[str, Any], scope: str) -> UserInfo:
                told = user if provider.in_token else {"sub": user["sub"]}
                return UserInfo(told | provider.overwritten)

        oauth.register_grant(Grant, [CodeChallenge(required=True), IdToken(require_nonce=True)])

        @app.before_request
        def count() -> None:
            self.asked[flask.request.path] += 1

        @app.get("/.well-known/openid-configuration")
        def discovery() -> dict[str, Any]:
            return {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/jwks",
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "token_endpoint_auth_methods_supported": [self.method],
            }

        @app.get("/jwks")
        def jwks() -> Any:
            return KeySet(list(self._keys.values())).as_dict()

        @app.get("/authorize")
        def authorize() -> Any:
            if not flask.request.args.get("code_challenge"):
                return "no PKCE", 400
            grant = oauth.get_authorization_grant(oauth.create_oauth2_request(None))
            return oauth.create_authorization_response(grant=grant, grant_user=self.somebody or None)

        @app.post("/token")
        def token() -> Any:
            return oauth.create_token_response()

        @app.get("/userinfo")
        def userinfo() -> Any:
            sent = flask.request.headers.get("Authorization", "").removeprefix("Bearer ")
            return self._tokens.get(sent) or flask.abort(401)

        return app

    def _keep_token(self, token: dict[str, Any], request: Any) -> None:
        self._tokens[token["access_token"]] = request.user


@contextmanager
def facility_provider() -> Iterator[ProviderServer]:
    """Run a provider."""
    server = ProviderServer()
    try:
        yield server
    finally:
        server.stop()
