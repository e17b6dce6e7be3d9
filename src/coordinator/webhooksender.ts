import { toHex } from "../kit/bytes.js";
import { asFailure } from "../kit/failure.js";
import { HOUR, type Millis, SECOND } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Log } from "../sys/log.js";
import type { Random } from "../sys/random.js";
import type { WebPost, WebPosted } from "../sys/webpost.js";
import { webhookHeaders } from "../wire/webhooks.js";
import { COORDINATOR } from "./actor.js";
import { forbidden } from "./destination.js";
import type { DeliveryRow } from "./store/schema.js";
import type { Store } from "./store/store.js";
import type { Webhook } from "./store/webhooks.js";
import { originOf, type Webhooks } from "./webhooks.js";

/** How often it looks for entries of the audit log that somebody wants to hear of. */
export const LOOK_MS: Millis = 2 * SECOND;
const ATTEMPT_MS: Millis = 10 * SECOND;
const PAUSE_MIN_MS: Millis = 5 * SECOND;
const PAUSE_MAX_MS: Millis = HOUR;
/** With these pauses, a webhook is given up after some ten hours. */
export const DELIVERY_ATTEMPTS_MAX = 20;
/** One webhook's deliveries in a row; then the others are looked at again. */
const DELIVERIES_AT_ONCE = 20;
/** One coordinator of several sends. It is renewed at each look. */
const LEASE = "webhooks";
const LEASE_MS: Millis = 60 * SECOND;

export type WebhookSenderParts = {
  readonly store: Store;
  readonly webhooks: Webhooks;
  readonly post: WebPost;
  readonly clock: Clock;
  readonly random: Random;
  /** Webhooks may be sent to this machine and link. */
  readonly allowLocal: boolean;
  readonly log?: Log;
};

/** Carries events to webhooks: in their order, each until it got there, and a dead webhook delays no other. */
export class WebhookSender {
  readonly #parts: WebhookSenderParts;
  readonly #name: string;
  readonly #over = new AbortController();
  readonly #ended: Promise<void>;

  constructor(parts: WebhookSenderParts) {
    this.#parts = parts;
    this.#name = toHex(parts.random(8));
    this.#ended = this.#run();
  }

  async close(): Promise<void> {
    this.#over.abort();
    await this.#ended;
  }

  /** One attempt, now, that is not repeated. */
  async test(webhook: Webhook): Promise<WebPosted & { tookMs: Millis }> {
    const { clock, random } = this.#parts;
    const startedAt = clock.now();
    const body = JSON.stringify({ type: "webhook.test", timestamp: new Date(clock.wall()).toISOString(), data: {} });
    const posted = await this.#post(webhook, `t${toHex(random(8))}-${webhook.id}`, body);
    return { ...posted, tookMs: clock.now() - startedAt };
  }

  async #run(): Promise<void> {
    const { clock, log, store } = this.#parts;
    const { signal } = this.#over;
    while (!signal.aborted) {
      await this.#look().catch((error: unknown) =>
        log?.warn("webhooks cannot be sent now", { reason: asFailure(error).message }),
      );
      await clock.sleep(LOOK_MS, signal).catch(() => undefined);
    }
    await store.view.leases.end(LEASE, this.#name).catch(() => undefined);
  }

  async #look(): Promise<void> {
    const { store, webhooks } = this.#parts;
    const all = (await store.view.webhooks.all()).filter(({ disabledAtMs }) => disabledAtMs === undefined);
    if (all.length === 0 || !(await store.view.leases.take(LEASE, this.#name, LEASE_MS))) return;
    await webhooks.enqueue();
    await Promise.all(all.map((one) => this.#deliver(one)));
  }

  async #deliver(webhook: Webhook): Promise<void> {
    const { store, clock } = this.#parts;
    const until = clock.now() + LEASE_MS / 2;
    for (const delivery of await store.view.deliveries.due(webhook.id, clock.wall(), DELIVERIES_AT_ONCE)) {
      if (this.#over.signal.aborted || clock.now() >= until) return;
      const posted = await this.#post(webhook, delivery.id, delivery.body);
      if (!hasArrived(posted)) {
        // Cut off by our own end, it has not failed.
        if (!this.#over.signal.aborted) await this.#failed(webhook, delivery, posted);
        return;
      }
      await store.view.deliveries.remove(delivery.id);
    }
  }

  async #failed(webhook: Webhook, delivery: DeliveryRow, posted: WebPosted): Promise<void> {
    const { store, webhooks, clock, log } = this.#parts;
    const attempts = delivery.attempts + 1;
    const reason = "reason" in posted ? posted.reason : `it answered HTTP ${posted.status}`;
    log?.warn("a webhook did not take an event", { webhook: webhook.id, url: originOf(webhook.url), attempts, reason });
    if (attempts >= DELIVERY_ATTEMPTS_MAX) return webhooks.setDisabled(webhook.id, true, COORDINATOR);
    const pauseMs = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** (attempts - 1));
    await store.change(({ deliveries }) => deliveries.postpone(delivery, attempts, clock.wall() + pauseMs));
  }

  #post({ url, secret }: Webhook, id: string, body: string): Promise<WebPosted> {
    const { post, clock, allowLocal } = this.#parts;
    const to = new URL(url);
    return post({
      url: to,
      headers: webhookHeaders(secret, id, clock.wall(), body),
      body,
      forbidden: (address) => forbidden(to, address, allowLocal),
      timeoutMs: ATTEMPT_MS,
      signal: this.#over.signal,
    });
  }
}

/** Whether the receiver has it. */
export const hasArrived = (posted: WebPosted): boolean =>
  "status" in posted && posted.status >= 200 && posted.status < 300;
