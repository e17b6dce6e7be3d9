import { Failure } from "../../kit/failure.js";
import { tryIp } from "../../kit/ip.js";

/** Where the identity provider sends people back to. */
export const OIDC_RETURN_PATH = "/sign-in/oidc/back";

/** Where people find the coordinator's pages. */
export type WebAddress = {
  /** Links that are shown begin with it. */
  readonly origin: string;
  /** Of all URLs by which the pages may be open. */
  readonly origins: readonly string[];
  /** The name that passkeys belong to (WebAuthn §5.1.2: a domain, never an IP address); undefined: there is none. */
  readonly rpId: string | undefined;
};

/** The first URL with a name is the one for people; without any, the first. */
export function webAddressOf(urls: readonly string[]): WebAddress {
  const parsed = urls.map((url) => new URL(url));
  const named = parsed.find(({ hostname }) => tryIp(hostname.replace(/^\[|\]$/g, "")) === undefined);
  return {
    origin: (named ?? parsed[0])?.origin ?? "",
    origins: parsed.map(({ origin }) => origin),
    rpId: named?.hostname,
  };
}

/** Without a name among its URLs nobody can have a passkey. */
export const passkeysUnavailable = (): Failure =>
  new Failure(
    "passkeys-unavailable",
    "passkeys belong to a name, and the coordinator is reached by an IP address only",
    {
      advice:
        "where the coordinator is administered, give it a name that leads to it; then invite again:\n" +
        "exitnode create --name home --public-address home.example.org             (with an exit node)\n" +
        "exitnode coordinator up --ssh root@HOST --url https://home.example.org    (on a machine of its own)",
    },
  );
