import * as client from "openid-client";
import { Failure } from "../../kit/failure.js";
import { HOUR, type Millis } from "../../kit/time.js";
import type { OidcConfig } from "../../wire/identity.js";
import { type Vouched, vouchedBy } from "./claims.js";
import type { Flow } from "./flows.js";
import { OIDC_RETURN_PATH } from "./webaddress.js";

/** How long one answer of the provider's may take. */
const PROVIDER_TIMEOUT_SECONDS = 10;
/** Its description and keys are read anew after this. */
const DESCRIPTION_LIFETIME_MS: Millis = 12 * HOUR;

export type ProviderParts = {
  readonly config: OidcConfig;
  readonly clientSecret: string | undefined;
  /** Our pages' address. */
  readonly origin: string;
  readonly fetch: typeof fetch;
  readonly wall: () => Millis;
};

type Tokens = Awaited<ReturnType<typeof client.authorizationCodeGrant>>;
type OidcFlow = Extract<Flow, { kind: "oidc" }>;

/** What a machine without a browser is told to show, and who has confirmed it in the end. */
export type ProviderSignIn = {
  readonly url: string;
  readonly code: string;
  readonly expiresAtMs: Millis;
  readonly vouched: Promise<Vouched>;
};

/** An OpenID Connect provider: authorization code with PKCE (RFC 7636), and device authorization (RFC 8628). */
export class Provider {
  readonly #parts: ProviderParts;
  #description: { readonly configuration: Promise<client.Configuration>; readonly until: Millis } | undefined;

  constructor(parts: ProviderParts) {
    this.#parts = parts;
  }

  get name(): string {
    const { name, issuer } = this.#parts.config;
    return name ?? new URL(issuer).hostname;
  }

  /** Where the browser goes, and what has to come back. */
  async begin(to: string): Promise<{ url: string; flow: OidcFlow }> {
    const configuration = await this.#configuration();
    const verifier = client.randomPKCECodeVerifier();
    const [state, nonce] = [client.randomState(), client.randomNonce()];
    const url = client.buildAuthorizationUrl(configuration, {
      redirect_uri: this.#returnUrl,
      scope: this.#parts.config.scopes.join(" "),
      code_challenge: await client.calculatePKCECodeChallenge(verifier),
      code_challenge_method: "S256",
      ...{ state, nonce },
    });
    return { url: url.href, flow: { kind: "oidc", state, nonce, verifier, to } };
  }

  /** `query` is what came back, with its question mark. */
  async finish(query: string, { state, nonce, verifier }: OidcFlow): Promise<Vouched> {
    const configuration = await this.#configuration();
    const tokens = await client
      .authorizationCodeGrant(configuration, new URL(`${this.#returnUrl}${query}`), {
        pkceCodeVerifier: verifier,
        expectedState: state,
        expectedNonce: nonce,
        idTokenExpected: true,
      })
      .catch((cause: unknown) => {
        throw refused(cause);
      });
    return vouchedBy(this.#parts.config, await this.#claims(configuration, tokens));
  }

  /** `signal` ends the asking. */
  async beginDevice(signal: AbortSignal): Promise<ProviderSignIn> {
    const { config, wall } = this.#parts;
    const configuration = await this.#configuration();
    const started = await client
      .initiateDeviceAuthorization(configuration, { scope: config.scopes.join(" ") })
      .catch((cause: unknown) => {
        throw unreachable(this.name, cause);
      });
    const vouched = client.pollDeviceAuthorizationGrant(configuration, started, undefined, { signal }).then(
      async (tokens) => vouchedBy(config, await this.#claims(configuration, tokens)),
      (cause: unknown) => {
        throw refused(cause);
      },
    );
    return {
      url: started.verification_uri_complete ?? started.verification_uri,
      code: started.user_code,
      expiresAtMs: wall() + started.expires_in * 1_000,
      vouched,
    };
  }

  /** OpenID Connect Core §5.4: many providers tell the address and the groups at the userinfo endpoint alone. */
  async #claims(configuration: client.Configuration, tokens: Tokens): Promise<unknown> {
    const claims = tokens.claims();
    if (claims === undefined) throw new Failure("sign-in-refused", "the identity provider gave no ID token");
    const { allowedGroups, groupsClaim } = this.#parts.config;
    const isEnough =
      "email" in claims && "email_verified" in claims && (allowedGroups === undefined || groupsClaim in claims);
    if (isEnough || configuration.serverMetadata().userinfo_endpoint === undefined) return claims;
    const more = await client.fetchUserInfo(configuration, tokens.access_token, claims.sub).catch((cause: unknown) => {
      throw refused(cause);
    });
    return { ...more, ...claims };
  }

  get #returnUrl(): string {
    return `${this.#parts.origin}${OIDC_RETURN_PATH}`;
  }

  /** Read when it is first needed: a provider that is down keeps nobody's network from starting. */
  #configuration(): Promise<client.Configuration> {
    const now = this.#parts.wall();
    const known = this.#description;
    if (known !== undefined && now < known.until) return known.configuration;
    const configuration = this.#discover();
    this.#description = { configuration, until: now + DESCRIPTION_LIFETIME_MS };
    configuration.catch(() => {
      this.#description = undefined;
    });
    return configuration;
  }

  async #discover(): Promise<client.Configuration> {
    const { config, clientSecret, fetch } = this.#parts;
    const { issuer, clientId } = config;
    const authentication = clientSecret === undefined ? client.None() : bySecret(clientSecret);
    return client
      .discovery(new URL(issuer), clientId, undefined, authentication, {
        timeout: PROVIDER_TIMEOUT_SECONDS,
        // The ID token's signature counts too, and not alone the TLS connection that it came through.
        execute: [client.enableNonRepudiationChecks],
        [client.customFetch]: (url, options) => fetch(url, options as RequestInit),
      })
      .catch((cause: unknown) => {
        throw unreachable(this.name, cause);
      });
  }
}

/** In the header, as RFC 6749 §2.3.1 wants it, unless the provider says that it takes secrets in the body alone. */
const bySecret =
  (secret: string): client.ClientAuth =>
  (server, ...rest) => {
    const inHeader = server.token_endpoint_auth_methods_supported?.includes("client_secret_basic") ?? true;
    return (inHeader ? client.ClientSecretBasic(secret) : client.ClientSecretPost(secret))(server, ...rest);
  };

const unreachable = (name: string, cause: unknown): Failure =>
  new Failure("provider-unreachable", `the identity provider ${name} does not answer as one does`, {
    cause,
    advice: "check identity.oidc.issuer in the coordinator's configuration, and that the provider is up",
  });

/** Codes, tokens and the provider's own words stay out of the text: the log has the kind of error. */
function refused(cause: unknown): Failure {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown";
  const error = cause instanceof Error && "error" in cause ? ` (${String(cause.error).slice(0, 64)})` : "";
  return new Failure("sign-in-refused", `the identity provider's answer was not accepted: ${code}${error}`, {
    cause,
    advice: "begin the sign-in again",
  });
}
