import type * as z from "zod";
import { equalSecrets, toBase64Url, toHex, utf8 } from "../kit/bytes.js";
import { Failure } from "../kit/failure.js";
import { MINUTE, type Millis } from "../kit/time.js";
import type { Random } from "../sys/random.js";
import type { createdToken, TokenInfo, tokenRequest } from "../wire/adminapi.js";
import type { Caller } from "./api/caller.js";
import { describeToken, forgettableTokens, hashToken, type StoredToken, TOKENS_MAX, tokenState } from "./apitoken.js";
import type { People } from "./identity/people.js";
import { scopesOf } from "./identity/roles.js";
import { isEnabled } from "./identity/user.js";
import type { Store } from "./store/store.js";

/** `exntok-ID-SECRET`: found by its id, told by its secret, and easily found where it was leaked. */
const TOKEN_PATTERN = /^exntok-(t[0-9a-f]{12})-([A-Za-z0-9_-]{43})$/;
const SECRET_BYTES = 32;
/** How exactly the last use is known: a write less for every call. */
const USED_STEP_MS: Millis = MINUTE;

export type TokensParts = {
  readonly store: Store;
  readonly random: Random;
  readonly wall: () => Millis;
  readonly people: Pick<People, "users">;
};

/** The API's tokens: made, told, ended. */
export class Tokens {
  readonly #parts: TokensParts;

  constructor(parts: TokensParts) {
    this.#parts = parts;
  }

  create(wanted: z.output<typeof tokenRequest>, by: Caller): Promise<z.infer<typeof createdToken>> {
    const { store, random, wall } = this.#parts;
    return store.change(async ({ tokens, audit }) => {
      const now = wall();
      const all = await tokens.all();
      const forgotten = forgettableTokens(all, now);
      if (all.length - forgotten.length >= TOKENS_MAX)
        throw new Failure("tokens-full", `${TOKENS_MAX} API tokens are valid already, and no more are kept`, {
          advice: "exitnode token list, then: exitnode token revoke <id>",
        });
      await tokens.forget(forgotten);
      const secret = toBase64Url(random(SECRET_BYTES));
      const { name, scopes, lifetimeMs } = wanted;
      const token: StoredToken = {
        id: `t${toHex(random(6))}`,
        secretHash: hashToken(secret),
        name,
        ...(by.userId === undefined ? {} : { userId: by.userId }),
        scopes: [...new Set(scopes)].sort(),
        createdAtMs: now,
        expiresAtMs: now + lifetimeMs,
      };
      await tokens.add(token);
      await audit.append({ at: now, by, action: "token.create", target: token.id, details: { name, scopes } });
      return { ...describeToken(token, now), token: `exntok-${token.id}-${secret}` };
    });
  }

  async list(): Promise<TokenInfo[]> {
    const now = this.#parts.wall();
    return (await this.#parts.store.view.tokens.all()).map((token) => describeToken(token, now));
  }

  revoke(id: string, by: Caller): Promise<void> {
    const { store, wall } = this.#parts;
    return store.change(async ({ tokens, audit }) => {
      const now = wall();
      await tokens.revoke(id, now);
      await audit.append({ at: now, by, action: "token.revoke", target: id });
    });
  }

  /** Whose token it is; undefined: nobody's, or one that is over. */
  async callerOf(text: string, remote: string): Promise<Caller | undefined> {
    const { store, wall, people } = this.#parts;
    const [, id = "", secret = ""] = TOKEN_PATTERN.exec(text) ?? [];
    if (id === "") return undefined;
    const now = wall();
    const token = await store.view.tokens.find(id);
    if (token === undefined || !equalSecrets(utf8(hashToken(secret)), utf8(token.secretHash))) return undefined;
    if (tokenState(token, now) !== "valid") return undefined;
    const user = token.userId === undefined ? undefined : people.users.get(token.userId);
    if (token.userId !== undefined && (user === undefined || !isEnabled(user))) return undefined;
    if (now - (token.usedAtMs ?? 0) >= USED_STEP_MS) await store.view.tokens.used(id, now);
    const person = user === undefined ? undefined : new Set(scopesOf(user.role));
    const given = new Set(token.scopes);
    return {
      name: `token:${id}`,
      remote,
      ...(token.userId === undefined ? {} : { userId: token.userId }),
      may: (scope) => given.has(scope) && (person?.has(scope) ?? true),
    };
  }
}
