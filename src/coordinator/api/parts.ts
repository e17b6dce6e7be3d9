import type { Log } from "../../sys/log.js";
import type { CoordinatorStatus } from "../../wire/adminapi.js";
import type { DeviceLocks } from "../devicelock.js";
import type { Invites } from "../identity/invites.js";
import type { People } from "../identity/people.js";
import type { Membership } from "../membership.js";
import type { Names } from "../names.js";
import type { NetworkFacts } from "../netmap.js";
import type { Policies } from "../policies.js";
import type { Registry } from "../registry.js";
import type { Relays } from "../relays.js";
import type { Store } from "../store/store.js";
import type { Switchboard } from "../switchboard.js";
import type { Tokens } from "../tokens.js";
import type { Webhooks } from "../webhooks.js";
import type { WebhookSender } from "../webhooksender.js";

/** What the operations work on. */
export type ApiParts = {
  readonly store: Store;
  readonly registry: Registry;
  readonly people: People;
  readonly invites: Invites;
  readonly policies: Policies;
  readonly membership: Membership;
  readonly tokens: Tokens;
  readonly switchboard: Switchboard;
  readonly relays: Relays;
  readonly names: Names;
  readonly locks: DeviceLocks;
  readonly facts: NetworkFacts;
  readonly status: () => CoordinatorStatus;
  readonly webhooks: Webhooks;
  readonly webhookSender: WebhookSender;
  /** Webhooks may be sent to this machine and link. */
  readonly allowLocalWebhooks: boolean;
  readonly log?: Log;
};
