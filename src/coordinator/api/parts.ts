import type { Log } from "../../sys/log.js";
import type { CoordinatorStatus } from "../../wire/adminapi.js";
import type { NetworkFacts } from "../netmap.js";
import type { Registry } from "../registry.js";
import type { Relays } from "../relays.js";
import type { Switchboard } from "../switchboard.js";

/** What the operations work on. */
export type ApiParts = {
  readonly registry: Registry;
  readonly switchboard: Switchboard;
  readonly relays: Relays;
  readonly facts: NetworkFacts;
  readonly status: () => CoordinatorStatus;
  readonly log?: Log;
};
