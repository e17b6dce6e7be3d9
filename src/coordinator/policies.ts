import { asFailure, Failure } from "../kit/failure.js";
import type { Cidr } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import type { Log } from "../sys/log.js";
import type { PolicyInfo, PolicyPreview } from "../wire/policyapi.js";
import type { Actor } from "./actor.js";
import type { ChangeFeed } from "./changefeed.js";
import { parsePolicy } from "./policy/parse.js";
import { DEFAULT_POLICY, DEFAULT_POLICY_TEXT, deviceNames, type Policy } from "./policy/policy.js";
import { preview } from "./policy/preview.js";
import { selectorKey } from "./policy/selector.js";
import { type PolicyUser, personKeys } from "./policy/standing.js";
import { runTests } from "./policy/trial.js";
import type { StoredPolicy } from "./store/policies.js";
import type { Store, StoreView } from "./store/store.js";
import { Visibility, type VisibilityParts } from "./visibility.js";

export type PoliciesParts = {
  readonly store: Store;
  /** Where the store is shared: what other coordinators change. */
  readonly feed?: ChangeFeed;
  /** The registry's, live. */
  readonly devices: VisibilityParts["devices"];
  readonly ranges: readonly Cidr[];
  readonly wall: () => Millis;
  readonly log?: Log;
};

/** The policy that holds and those that held before; what follows from it is Visibility's. */
export class Policies {
  readonly #parts: PoliciesParts;
  readonly #users = new Map<string, PolicyUser>();
  readonly visibility: Visibility;
  /** Called when every device's map may be another one. */
  changed: () => void = () => undefined;
  #latest: StoredPolicy | undefined;
  #deviceNames: ReadonlySet<string> = new Set();

  private constructor(parts: PoliciesParts) {
    this.#parts = parts;
    this.visibility = new Visibility({ ...parts, users: this.#users });
  }

  static async open(parts: PoliciesParts): Promise<Policies> {
    const policies = new Policies(parts);
    const { view } = parts.store;
    await policies.#readUsers(view);
    await policies.#readLatest(view);
    parts.feed?.on("policy", (at) => policies.#follow(() => policies.#readLatest(at)));
    parts.feed?.on("member", (at) => policies.followPeople(at));
    return policies;
  }

  /** The one that holds; version 0 without any. */
  get current(): PolicyInfo {
    return this.#latest ?? { version: 0, text: DEFAULT_POLICY_TEXT };
  }

  async history(): Promise<StoredPolicy[]> {
    return this.#parts.store.view.policies.list();
  }

  /** Somebody came, or is not as they were. */
  followPeople(view: StoreView = this.#parts.store.view): Promise<void> {
    return this.#follow(() => this.#readUsers(view));
  }

  /** Whether the policy lets somebody who is no administrator give devices these tags. */
  ownsTags(userId: string | undefined, tags: readonly string[]): boolean {
    const { policy } = this.visibility;
    const user = userId === undefined ? undefined : this.#users.get(userId);
    if (user === undefined) return false;
    const keys = personKeys(userId, user, policy);
    return tags.every((tag) =>
      policy.tagOwners.get(tag)?.some((owner) => owner.kind !== "network" && keys.includes(selectorKey(owner))),
    );
  }

  /** Whether the policy goes by this name of a device, so that nobody may take it who is no administrator. */
  isReserved(name: string): boolean {
    return this.#deviceNames.has(name);
  }

  /** What would be if this text were the policy; without one, whether the policy's own tests hold now. */
  preview(text: string = this.current.text): PolicyPreview {
    const policy = parsePolicy(text);
    const devices = [...this.#parts.devices.values()];
    const [before, after] = [this.visibility.access, this.visibility.over(policy)];
    const idByName = new Map(devices.map(({ id, name }) => [name, id]));
    const failed = runTests(policy, { access: after, users: this.#users, idByName });
    const found = preview(devices, before, after, this.#parts.wall());
    return {
      version: this.current.version,
      tests: policy.tests.length,
      failed,
      changes: [...found.changes],
      more: found.more,
      whole: found.whole,
    };
  }

  /** Saves a policy whose tests hold and makes it the one that does; `replaces` is the version it was made from. */
  async set(
    text: string,
    replaces: number | string | undefined,
    by: Actor,
    action = "policy.set",
  ): Promise<PolicyPreview> {
    const { store, wall } = this.#parts;
    const found = this.preview(text);
    const [failed] = found.failed;
    if (failed !== undefined)
      throw new Failure("policy-tests-failed", `line ${failed.line}: ${failed.message}`, {
        advice: "exitnode policy test FILE",
      });
    const policy = parsePolicy(text);
    const saved = await store.change(async (view) => {
      const last = (await view.policies.latest())?.version ?? 0;
      if (replaces !== undefined && String(replaces) !== String(last))
        throw new Failure("policy-changed", `the policy is at version ${last} by now, and not at ${replaces}`, {
          advice: "exitnode policy show",
        });
      const next: StoredPolicy = { version: last + 1, text, actor: by.name, createdAtMs: wall() };
      await view.policies.add(next);
      await view.audit.append({
        at: next.createdAtMs,
        by,
        action,
        target: `policy ${next.version}`,
        details: { replaces: last, changes: found.changes.length + found.more },
      });
      return next;
    });
    this.#hold(saved, policy);
    this.changed();
    return found;
  }

  /** An older version as the newest one: nothing of the history is lost. */
  async rollback(version: number, by: Actor): Promise<PolicyPreview> {
    const old = await this.#parts.store.view.policies.find(version);
    if (old === undefined)
      throw new Failure("policy-unknown", `no policy has the version ${version}`, { advice: "exitnode policy log" });
    return this.set(old.text, undefined, by, "policy.rollback");
  }

  #hold(stored: StoredPolicy | undefined, policy: Policy): void {
    // Two changes at once may end in either order here.
    if (this.#latest !== undefined && stored !== undefined && stored.version < this.#latest.version) return;
    this.#latest = stored;
    this.#deviceNames = deviceNames(policy);
    this.visibility.refresh(policy);
  }

  /** True when it is another one than before. */
  async #readLatest(view: StoreView): Promise<boolean> {
    const stored = await view.policies.latest();
    if (stored?.version === this.#latest?.version && stored?.text === this.#latest?.text) return false;
    const policy = stored === undefined ? DEFAULT_POLICY : parsePolicy(stored.text);
    this.#latest = undefined;
    this.#hold(stored, policy);
    return true;
  }

  /** True when it makes a difference: whoever is new has no devices yet. */
  async #readUsers(view: StoreView): Promise<boolean> {
    let differs = false;
    for (const { id, login, role, disabledAtMs } of await view.users.all()) {
      const known = this.#users.get(id);
      if (known?.login === login && known.role === role && known.disabledAtMs === disabledAtMs) continue;
      differs ||= known !== undefined;
      this.#users.set(id, { login, role, ...(disabledAtMs === undefined ? {} : { disabledAtMs }) });
    }
    if (differs) this.visibility.refresh();
    return differs;
  }

  /** What another coordinator wrote and we cannot read leaves us with what held before. */
  async #follow(read: () => Promise<boolean>): Promise<void> {
    try {
      if (await read()) this.changed();
    } catch (error) {
      this.#parts.log?.error("the policy was not read anew", { reason: asFailure(error).message });
    }
  }
}
