import { equalSecrets, utf8 } from "../../kit/bytes.js";
import { asFailure, Failure } from "../../kit/failure.js";
import type { Key } from "../../kit/key.js";
import { neighbourhood } from "../../kit/neighbourhood.js";
import { MINUTE, type Millis } from "../../kit/time.js";
import type { Log } from "../../sys/log.js";
import type { Random } from "../../sys/random.js";
import type { Refusal } from "../../wire/control.js";
import { Allowance } from "../allowance.js";
import { isMember, waitingOf } from "../device.js";
import type { Registry } from "../registry.js";
import type { SignInRow } from "../store/schema.js";
import type { Store, StoreView } from "../store/store.js";
import type { Provider, ProviderSignIn } from "./oidc.js";
import type { People } from "./people.js";
import { isEnabled, type User } from "./user.js";

/** How long a machine waits for its person. */
const SIGN_IN_LIFETIME_MS: Millis = 10 * MINUTE;
/** Waiting at once: of all, and of one address. */
const SIGN_INS_MAX = 1_024;
const SIGN_INS_OF_ONE_MAX = 8;
/** New ones that one address may begin: each is written to the store. */
const SIGN_INS_ALLOWED = { perSecond: 0.5, burst: 32 } as const;
export const CONFIRM_PATH = "/device";

/** RFC 8628 §6.1: consonants alone, so that no code is a word. 20⁸ is 34 bits, good for ten minutes. */
const ALPHABET = "BCDFGHJKLMNPQRSTVWXZ";
const CODE_CHARACTERS = 8;

export type SignInsParts = {
  readonly store: Store;
  readonly registry: Pick<Registry, "devices" | "change">;
  readonly people: People;
  readonly random: Random;
  readonly wall: () => Millis;
  /** Our pages' address. */
  readonly origin: string;
  /** Where machines are confirmed at the identity provider itself. */
  readonly provider?: Pick<Provider, "beginDevice">;
  /** Other coordinators share the store, and may be the ones that ask the provider. */
  readonly isShared: boolean;
  readonly log?: Log;
};

/** How a machine that asks for a sign-in is answered. */
export type SignInAnswer =
  /** It needs none, or `userId` has confirmed it. */
  | { readonly kind: "in"; readonly userId?: string }
  | { readonly kind: "wait"; readonly url: string; readonly code: string; readonly expiresAtMs: Millis }
  | { readonly kind: "refused"; readonly code: Refusal };

/** What a person is shown before they let a machine in. */
export type WaitingMachine = {
  readonly name: string;
  readonly code: string;
  readonly remote: string;
  readonly atMs: Millis;
};

/** Machines that wait until a person says that they are theirs, each bound to its machine key. */
export class SignIns {
  readonly #parts: SignInsParts;
  readonly #over = new AbortController();
  readonly #allowance = new Allowance(SIGN_INS_ALLOWED);
  /** The codes of those that the provider is asked about. */
  readonly #asked = new Set<string>();

  constructor(parts: SignInsParts) {
    this.#parts = parts;
  }

  /** Asked again and again by a machine that waits. */
  async greet(machineKey: Key, name: string, remote: string): Promise<SignInAnswer> {
    const { registry, store, wall, provider } = this.#parts;
    const now = wall();
    const known = registry.devices.byMachineKey(machineKey);
    // Otherwise the entrance says what there is to say. Nobody signs in for an exit node: it renews its key by itself.
    const isExpired = known?.role === "device" && isMember(known) && waitingOf(known, now) === "key-expired";
    if (known !== undefined && !isExpired) return { kind: "in" };
    const row = await store.view.signIns.find(machineKey);
    if (row !== undefined && now < row.expires_at_ms && !this.#isOrphan(row)) {
      const answer = this.#answer(row);
      // Told once: whoever was somebody else by mistake may begin again.
      if (answer.kind === "refused") await store.change(({ signIns }) => signIns.remove(machineKey));
      return answer;
    }
    if (!this.#allowance.take(neighbourhood(remote), now) || (await this.#room(store.view, remote, now)) === "none")
      return { kind: "refused", code: "sign-ins-full" };
    const started = await provider?.beginDevice(this.#over.signal).catch((error: unknown) => {
      this.#parts.log?.warn("no sign-in at the identity provider", { reason: asFailure(error).message });
      return undefined;
    });
    if (provider !== undefined && started === undefined) return { kind: "refused", code: "sign-in-unavailable" };
    // Of two that one machine begins at once only the first is shown: that the other comes to nothing is no news.
    started?.vouched.catch(() => undefined);
    return this.#add(machineKey, name, remote, started);
  }

  /** The machine behind a code that a person has typed or followed. */
  async waiting(code: string): Promise<WaitingMachine> {
    const { name, remote, created_at_ms: atMs, code: shown } = await this.#find(this.#parts.store.view, code);
    return { name, remote, atMs, code: shown };
  }

  /** From now on the machine is let in as this person's. */
  confirm(code: string, user: User, remote: string): Promise<WaitingMachine> {
    return this.#settle(code, "confirmed", user, remote);
  }

  refuse(code: string, user: User, remote: string): Promise<WaitingMachine> {
    return this.#settle(code, "refused", user, remote);
  }

  close(): void {
    this.#over.abort();
  }

  async #settle(code: string, state: "confirmed" | "refused", user: User, remote: string): Promise<WaitingMachine> {
    return this.#parts.registry.change(async ({ view, note }) => {
      const row = await this.#find(view, code);
      await view.signIns.settle(row.code, state, state === "confirmed" ? user.id : null);
      const action = state === "confirmed" ? "sign-in.confirm" : "sign-in.refuse";
      note({ name: `user:${user.id}`, remote }, action, row.machine_key, { name: row.name, from: row.remote });
      return { name: row.name, code: row.code, remote: row.remote, atMs: row.created_at_ms };
    });
  }

  #answer(row: SignInRow): SignInAnswer {
    if (row.state === "refused") return { kind: "refused", code: "sign-in-refused" };
    if (row.state === "confirmed" && row.user_id !== null) {
      const user = this.#parts.people.users.get(row.user_id);
      // Disabled since, whose word counts no more.
      if (user === undefined || !isEnabled(user)) return { kind: "refused", code: "sign-in-refused" };
      return { kind: "in", userId: user.id };
    }
    return { kind: "wait", url: row.url, code: row.code, expiresAtMs: row.expires_at_ms };
  }

  #add(machineKey: Key, name: string, remote: string, started: ProviderSignIn | undefined): Promise<SignInAnswer> {
    const { registry, wall, origin, random } = this.#parts;
    const now = wall();
    return registry.change(async ({ view }): Promise<SignInAnswer> => {
      await view.signIns.prune(now);
      const there = await view.signIns.find(machineKey);
      if (there !== undefined && !this.#isOrphan(there)) return this.#answer(there);
      if (there !== undefined) await view.signIns.remove(machineKey);
      const room = await this.#room(view, remote, now);
      if (room === "none") return { kind: "refused", code: "sign-ins-full" };
      if (room !== "enough") await view.signIns.remove(room.machine_key);
      const code = started?.code ?? codeFrom(random);
      const row: SignInRow = {
        ...{ machine_key: machineKey, code, name, remote, state: "waiting", user_id: null, created_at_ms: now },
        url: started?.url ?? `${origin}${CONFIRM_PATH}?code=${code}`,
        expires_at_ms: Math.min(now + SIGN_IN_LIFETIME_MS, started?.expiresAtMs ?? Number.POSITIVE_INFINITY),
      };
      await view.signIns.add(row);
      if (started !== undefined) void this.#await(code, remote, started);
      return this.#answer(row);
    });
  }

  /** The provider was asked about it by an earlier run of ours, and what somebody confirms there nobody hears. */
  #isOrphan({ code, state }: SignInRow): boolean {
    const { provider, isShared } = this.#parts;
    return provider !== undefined && !isShared && state === "waiting" && !this.#asked.has(code);
  }

  /** Whether one more may wait; of one address, the oldest makes room for it. */
  async #room(view: Pick<StoreView, "signIns">, remote: string, now: Millis): Promise<"enough" | "none" | SignInRow> {
    const all = (await view.signIns.all()).filter((row) => now < row.expires_at_ms);
    const theirs = all.filter((row) => neighbourhood(row.remote) === neighbourhood(remote));
    const [oldest] = theirs;
    if (oldest !== undefined && theirs.length >= SIGN_INS_OF_ONE_MAX) return oldest;
    return all.length < SIGN_INS_MAX ? "enough" : "none";
  }

  /** Every code is compared with every other, in the same time whether or not it begins alike. */
  async #find(view: Pick<StoreView, "signIns">, code: string): Promise<SignInRow> {
    const wanted = utf8(plain(code));
    const now = this.#parts.wall();
    let found: SignInRow | undefined;
    for (const row of await view.signIns.all())
      if (equalSecrets(utf8(plain(row.code)), wanted) && row.state === "waiting" && now < row.expires_at_ms)
        found = row;
    if (found !== undefined) return found;
    throw new Failure("sign-in-unknown", "no machine waits with this code: it was used already, or has expired", {
      advice: "run `exitnode up` there once more",
    });
  }

  /** Until somebody has confirmed it at the identity provider. */
  async #await(code: string, remote: string, { vouched }: ProviderSignIn): Promise<void> {
    const { people, log, store } = this.#parts;
    this.#asked.add(code);
    try {
      await this.confirm(code, await people.vouched(await vouched, remote), remote);
    } catch (error) {
      if (this.#over.signal.aborted) return;
      log?.warn("a machine was not let in by the identity provider", { reason: asFailure(error).message });
      await store.change(({ signIns }) => signIns.settle(code, "refused", null)).catch(() => undefined);
    } finally {
      this.#asked.delete(code);
    }
  }
}

/** Bytes that would favour some letters are drawn again. */
function codeFrom(random: Random): string {
  const letters: string[] = [];
  while (letters.length < CODE_CHARACTERS)
    for (const byte of random(CODE_CHARACTERS))
      if (byte < 12 * ALPHABET.length && letters.length < CODE_CHARACTERS)
        letters.push(ALPHABET[byte % ALPHABET.length] ?? "");
  return `${letters.slice(0, 4).join("")}-${letters.slice(4).join("")}`;
}

/** As people type it. */
const plain = (code: string): string => code.toUpperCase().replaceAll(/[^A-Z0-9]/g, "");
