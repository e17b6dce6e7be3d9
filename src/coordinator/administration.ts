import { SECOND } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Answer } from "../sys/httpserver.js";
import type { Random } from "../sys/random.js";
import type { WebPost } from "../sys/webpost.js";
import type { CoordinatorConfig } from "../wire/coordinatorconfig.js";
import type { Gate } from "./api/caller.js";
import { mountApi } from "./api/mount.js";
import { withOpenApi } from "./api/openapi.js";
import type { ApiParts } from "./api/parts.js";
import { Replays } from "./api/replays.js";
import { apiRoutes } from "./api/routes.js";
import { Metrics } from "./metrics.js";
import { Webhooks } from "./webhooks.js";
import { WebhookSender } from "./webhooksender.js";

export type AdministrationParts = {
  /** What the operations work on. */
  readonly api: Omit<ApiParts, "webhooks" | "webhookSender" | "allowLocalWebhooks">;
  readonly clock: Clock;
  readonly random: Random;
  readonly version: string;
  /** Left out, no webhook arrives. */
  readonly post?: WebPost;
  readonly want: Pick<CoordinatorConfig, "openMetrics" | "webhooksToThisMachine">;
  /** How callers over the network are told. */
  readonly gate: Gate;
};

export type Administration = {
  readonly overNetwork: Answer;
  readonly overSocket: Answer;
  close(): Promise<void>;
};

/** The API with what stands around it: answers to repeated requests, webhooks and figures. */
export function openAdministration(parts: AdministrationParts): Administration {
  const { api, clock, random, version, want } = parts;
  const { store } = api;
  const log = api.log === undefined ? {} : { log: api.log };
  const allowLocal = want.webhooksToThisMachine ?? false;
  const wall = (): number => clock.wall();
  const webhooks = new Webhooks({ store, random, wall });
  const post: WebPost = parts.post ?? (() => Promise.resolve({ reason: "this coordinator sends no webhooks" }));
  const webhookSender = new WebhookSender({ store, webhooks, post, clock, random, allowLocal, ...log });
  const metrics = new Metrics();
  addReadings(metrics, api, version);
  const mounted = {
    routes: withOpenApi(apiRoutes({ ...api, webhooks, webhookSender, allowLocalWebhooks: allowLocal }), version),
    now: () => clock.now(),
    replays: new Replays({ store, random, wall }),
    metrics,
    ready: async () => {
      await store.view.settings.get("ula");
    },
    openMetrics: want.openMetrics ?? false,
    ...log,
  };
  const network = mountApi(mounted, parts.gate);
  const socket = mountApi(mounted, { kind: "socket" });
  return {
    overNetwork: (request, caller) => network.fetch(request, caller),
    overSocket: (request, caller) => socket.fetch(request, caller),
    close: () => webhookSender.close(),
  };
}

function addReadings(metrics: Metrics, { status, registry }: AdministrationParts["api"], version: string): void {
  const gauge = (name: string, help: string, value: () => number): void =>
    metrics.read({ name, kind: "gauge", help, values: () => [{ value: value() }] });
  const counter = (name: string, help: string, value: () => number): void =>
    metrics.read({ name, kind: "counter", help, values: () => [{ value: value() }] });
  metrics.read({
    name: "exitnode_build_info",
    kind: "gauge",
    help: "The coordinator's version.",
    values: () => [{ labels: { version }, value: 1 }],
  });
  gauge("exitnode_start_time_seconds", "When it started.", () => status().startedAtMs / SECOND);
  metrics.read({
    name: "exitnode_devices",
    kind: "gauge",
    help: "Devices of the network, by role and state.",
    values: () => devicesByState([...registry.devices.values()]),
  });
  gauge("exitnode_devices_online", "Devices that are connected.", () => status().online);
  gauge("exitnode_relays", "Relays in the map.", () => status().relays);
  counter(
    "exitnode_forwarded_calls_total",
    "Calls from device to device that went through the coordinator.",
    () => status().forwardedCalls,
  );
  counter(
    "exitnode_forwarded_call_bytes_total",
    "Bytes of the probes in those calls.",
    () => status().forwardedCallBytes,
  );
}

function devicesByState(devices: readonly { readonly role: string; readonly revokedAtMs?: number }[]) {
  const count = (role: string, revoked: boolean): number =>
    devices.filter((one) => one.role === role && (one.revokedAtMs !== undefined) === revoked).length;
  return ["device", "exit-node"].flatMap((role) =>
    [false, true].map((revoked) => ({
      labels: { role, state: revoked ? "revoked" : "member" },
      value: count(role, revoked),
    })),
  );
}
