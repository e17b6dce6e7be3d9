import { toHex } from "../kit/bytes.js";
import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";
import type { Random } from "../sys/random.js";
import {
  matchesAction,
  WEBHOOK_SECRET_BYTES,
  WEBHOOKS_MAX,
  type WebhookInfo,
  webhookSecret,
} from "../wire/webhooks.js";
import type { Actor } from "./actor.js";
import type { AuditRow } from "./store/schema.js";
import type { Store, StoreView } from "./store/store.js";
import type { Webhook } from "./store/webhooks.js";

/** Events that wait for one webhook; beyond, the oldest is lost. */
export const PENDING_MAX = 1_000;
/** Entries of the audit log that are looked through in one transaction. */
const ENTRIES_AT_ONCE = 200;
/** The setting with the last entry of the audit log that was looked through. */
const CURSOR = "webhook-cursor";

export type WebhooksParts = { readonly store: Store; readonly random: Random; readonly wall: () => Millis };

/**
 * Who wants to hear of which changes. The audit log is the queue: what a change has written there is never missed,
 * also when the coordinator dies between the change and the first attempt to tell of it.
 */
export class Webhooks {
  readonly #parts: WebhooksParts;

  constructor(parts: WebhooksParts) {
    this.#parts = parts;
  }

  async list(): Promise<WebhookInfo[]> {
    const { webhooks, deliveries } = this.#parts.store.view;
    const [all, pending] = [await webhooks.all(), await deliveries.pending()];
    return all.map((one) => describeWebhook(one, pending.get(one.id) ?? 0));
  }

  async find(id: string): Promise<Webhook> {
    const found = (await this.#parts.store.view.webhooks.all()).find((one) => one.id === id);
    if (found === undefined) throw unknown(id);
    return found;
  }

  /** It hears of everything from its own creation on. */
  async create(url: string, actions: readonly string[], by: Actor): Promise<Webhook> {
    const { store, random, wall } = this.#parts;
    await this.enqueue();
    return store.change(async (view) => {
      const all = await view.webhooks.all();
      if (all.length >= WEBHOOKS_MAX)
        throw new Failure("webhooks-full", `there are ${WEBHOOKS_MAX} webhooks already, and no more are kept`, {
          advice: "exitnode webhook list, then: exitnode webhook remove <id>",
        });
      const secret = webhookSecret(random(WEBHOOK_SECRET_BYTES));
      const webhook: Webhook = { id: `w${toHex(random(6))}`, url, secret, actions, createdAtMs: wall() };
      // Nobody has listened until now: what happened before is nobody's.
      if (all.length === 0) await view.settings.set(CURSOR, String((await view.audit.last()).seq));
      await view.webhooks.add(webhook);
      const details = { url: originOf(url), actions };
      await view.audit.append({ at: wall(), by, action: "webhook.create", target: webhook.id, details });
      return webhook;
    });
  }

  remove(id: string, by: Actor): Promise<void> {
    return this.#parts.store.change(async ({ webhooks, audit }) => {
      if (!(await webhooks.remove(id))) throw unknown(id);
      await audit.append({ at: this.#parts.wall(), by, action: "webhook.remove", target: id });
    });
  }

  /** Gives a webhook up, or takes it up again; what waited for it is lost in the first case. */
  setDisabled(id: string, disabled: boolean, by: Actor): Promise<void> {
    return this.#parts.store.change(async ({ webhooks, deliveries, audit }) => {
      const at = this.#parts.wall();
      if (disabled) await deliveries.removeAll(id);
      await webhooks.setDisabled(id, disabled ? at : null);
      await audit.append({ at, by, action: disabled ? "webhook.disable" : "webhook.enable", target: id });
    });
  }

  /** Makes deliveries of the entries that have come since the last time. */
  async enqueue(): Promise<void> {
    const { store } = this.#parts;
    for (let more = true; more; ) {
      if ((await store.view.webhooks.all()).length === 0) return;
      if ((await store.view.audit.last()).seq <= (await cursorOf(store.view))) return;
      more = await store.change((view) => this.#enqueueSome(view));
    }
  }

  async #enqueueSome(view: StoreView): Promise<boolean> {
    const entries = await view.audit.list({ after: await cursorOf(view), limit: ENTRIES_AT_ONCE });
    const last = entries.at(-1);
    if (last === undefined) return false;
    for (const { id, actions, disabledAtMs } of await view.webhooks.all()) {
      if (disabledAtMs !== undefined) continue;
      const wanted = entries.filter(({ action }) => actions.some((pattern) => matchesAction(pattern, action)));
      await view.deliveries.add(
        wanted.map((entry) => ({
          id: deliveryId(entry.seq, id),
          webhook_id: id,
          body: eventBody(entry),
          attempts: 0,
          next_at_ms: 0,
        })),
      );
      if (wanted.length > 0) await view.deliveries.prune(id, PENDING_MAX);
    }
    await view.settings.set(CURSOR, String(last.seq));
    return entries.length === ENTRIES_AT_ONCE;
  }
}

export const describeWebhook = ({ id, url, actions, createdAtMs, disabledAtMs }: Webhook, pending: number) => ({
  id,
  url: originOf(url),
  actions: [...actions],
  createdAtMs,
  ...(disabledAtMs === undefined ? {} : { disabledAtMs }),
  pending,
});

/** A URL as lists and logs show it. */
export const originOf = (url: string): string => `${new URL(url).origin}/…`;

/** Numbers of one length: their order as text is the order of the events. */
const deliveryId = (seq: number, webhookId: string): string => `e${String(seq).padStart(12, "0")}-${webhookId}`;

const eventBody = ({ seq, at_ms, actor, remote, action, target, details }: Omit<AuditRow, "hash">): string =>
  `{"type":${JSON.stringify(action)},"timestamp":"${new Date(at_ms).toISOString()}","data":${JSON.stringify({
    seq,
    actor,
    remote,
    target,
  }).slice(0, -1)},"details":${details}}}`;

const cursorOf = async ({ settings }: StoreView): Promise<number> => Number((await settings.get(CURSOR)) ?? 0);

const unknown = (id: string): Failure =>
  new Failure("webhook-unknown", `no webhook has the id "${id}"`, { advice: "exitnode webhook list" });
