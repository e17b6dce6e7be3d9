import * as z from "zod";
import { fromBase64Url, toBase64Url, utf8 } from "../../kit/bytes.js";
import { Failure } from "../../kit/failure.js";
import type { Millis } from "../../kit/time.js";
import { parseWith } from "../../wire/schema.js";
import type { PasskeyRow } from "../store/schema.js";
import type { Store } from "../store/store.js";
import { inviteId } from "./invites.js";
import { type People, requireEnabled } from "./people.js";
import type { User } from "./user.js";
import { passkeysUnavailable, type WebAddress } from "./webaddress.js";

/** Of one person. */
const PASSKEYS_MAX = 16;

const text = z.string().max(16_384);
const extensions = z.looseObject({}).default({});
const credential = z.object({ id: z.string().min(1).max(1_400), rawId: text, type: z.literal("public-key") });
/** What navigator.credentials.create() gave, in the JSON of WebAuthn Level 3 §5.1. */
export const registration = credential.extend({
  clientExtensionResults: extensions,
  response: z.object({ clientDataJSON: text, attestationObject: text }),
});
/** What navigator.credentials.get() gave. */
export const assertion = credential.extend({
  clientExtensionResults: extensions,
  response: z.object({ clientDataJSON: text, authenticatorData: text, signature: text }),
});

/** Read when somebody first needs it: it takes 24 MB. */
const webauthn = () => import("@simplewebauthn/server");
type WebAuthn = Awaited<ReturnType<typeof webauthn>>;

export type PasskeysParts = {
  readonly store: Store;
  readonly people: People;
  readonly address: WebAddress;
  readonly wall: () => Millis;
};

/**
 * Sign-in by passkey (WebAuthn Level 3), for a home without an identity provider. A passkey belongs to a name, the
 * host of the coordinator's URL, and verifies its person itself, by finger, face or PIN: it is both factors at once.
 */
export class Passkeys {
  readonly #parts: PasskeysParts;

  constructor(parts: PasskeysParts) {
    this.#parts = parts;
  }

  /** For navigator.credentials.get(): whichever passkey of this name the person picks. */
  async signInOptions(): ReturnType<WebAuthn["generateAuthenticationOptions"]> {
    const { generateAuthenticationOptions } = await webauthn();
    return generateAuthenticationOptions({ rpID: this.#rpId, userVerification: "required" });
  }

  async signIn(value: unknown, challenge: string): Promise<User> {
    const { store, people, address, wall } = this.#parts;
    const { response, ...rest } = parseWith(assertion, value, "the passkey's answer", "passkey-refused");
    const row = await store.view.passkeys.find(rest.id);
    const user = row === undefined ? undefined : people.users.get(row.user_id);
    if (row === undefined || user === undefined) throw refused("this passkey is not known here");
    requireEnabled(user);
    const { verifyAuthenticationResponse } = await webauthn();
    const { verified, authenticationInfo } = await verifyAuthenticationResponse({
      response: { ...rest, response, clientExtensionResults: {} },
      expectedChallenge: challenge,
      expectedOrigin: [...address.origins],
      expectedRPID: this.#rpId,
      credential: { id: row.id, publicKey: bytesOf(row), counter: row.counter },
      requireUserVerification: true,
    }).catch((cause: unknown) => {
      throw refused("the passkey's answer does not prove it", cause);
    });
    if (!verified) throw refused("the passkey's signature is wrong");
    await store.change(async ({ passkeys }) => {
      // WebAuthn §7.2 step 22: a counter that does not grow is a copied passkey's; two answers at once are no better.
      if ((await passkeys.find(row.id))?.counter !== row.counter) throw refused("this passkey was used meanwhile");
      await passkeys.used(row.id, authenticationInfo.newCounter, wall());
    });
    return user;
  }

  /** For navigator.credentials.create(). */
  async enrolOptions(user: User): ReturnType<WebAuthn["generateRegistrationOptions"]> {
    const { generateRegistrationOptions } = await webauthn();
    const known = await this.#parts.store.view.passkeys.of(user.id);
    return generateRegistrationOptions({
      rpName: "exitnode",
      rpID: this.#rpId,
      userName: user.login,
      userID: new Uint8Array(utf8(user.id)),
      userDisplayName: user.displayName,
      excludeCredentials: known.map(({ id }) => ({ id })),
      // Discoverable: whoever signs in types no name.
      authenticatorSelection: { residentKey: "required", userVerification: "required" },
    });
  }

  /** Uses the invitation up. */
  async enrol(value: unknown, challenge: string, user: User, invite: string, remote: string): Promise<void> {
    const { store, address, wall } = this.#parts;
    const { response, ...rest } = parseWith(registration, value, "the passkey's answer", "passkey-refused");
    const { verifyRegistrationResponse } = await webauthn();
    const { verified, registrationInfo } = await verifyRegistrationResponse({
      response: { ...rest, response, clientExtensionResults: {} },
      expectedChallenge: challenge,
      expectedOrigin: [...address.origins],
      expectedRPID: this.#rpId,
      requireUserVerification: true,
    }).catch((cause: unknown) => {
      throw refused("the new passkey was not accepted", cause);
    });
    if (!verified || registrationInfo === undefined) throw refused("the new passkey was not accepted");
    const { id, publicKey, counter } = registrationInfo.credential;
    await store.change(async ({ passkeys, invites, audit }) => {
      const now = wall();
      const found = await invites.find(inviteId(invite));
      if (found === undefined || found.user_id !== user.id || now >= found.expires_at_ms)
        throw new Failure("invite-unknown", "this invitation was used meanwhile, or has expired");
      const known = await passkeys.of(user.id);
      if (known.length >= PASSKEYS_MAX) throw refused(`${user.login} has ${PASSKEYS_MAX} passkeys already`);
      if ((await passkeys.find(id)) !== undefined) throw refused("this passkey is known already");
      await invites.removeOf(user.id);
      await passkeys.add({
        id,
        user_id: user.id,
        public_key: toBase64Url(publicKey),
        counter,
        name: `passkey ${known.length + 1}`,
        created_at_ms: now,
        used_at_ms: null,
      });
      const by = { name: `user:${user.id}`, remote };
      await audit.append({ at: now, by, action: "passkey.add", target: user.id, details: { login: user.login } });
    });
  }

  get #rpId(): string {
    const { rpId } = this.#parts.address;
    if (rpId !== undefined) return rpId;
    throw passkeysUnavailable();
  }
}

const bytesOf = (row: PasskeyRow): Uint8Array<ArrayBuffer> =>
  new Uint8Array(fromBase64Url(row.public_key) ?? new Uint8Array(0));

const refused = (words: string, cause?: unknown): Failure =>
  new Failure("passkey-refused", words, { cause, advice: "try again, or ask for an invitation to enrol another one" });
