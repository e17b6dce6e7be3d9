import { Failure } from "../kit/failure.js";
import { formatDuration } from "../kit/time.js";
import { type DeviceInfo, deviceInfo } from "../wire/adminapi.js";
import { listAll } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { readConfig } from "./config.js";
import { attempt } from "./everyhost.js";
import { listHosts } from "./listaction.js";
import { renderFolded, renderTable } from "./table.js";

/** The exit nodes as the coordinator and the hosts see them; with a name, one with all that is known of it. */
export async function exitNodeStatus(call: Call, name: string | undefined): Promise<Outcome> {
  return name === undefined ? everyExitNode(call) : oneExitNode(call, name);
}

const devicesOf = (call: Call): Promise<readonly DeviceInfo[]> => listAll(call, "/devices", "devices", deviceInfo);

/** The coordinator and every host are asked at once; exit code 1 when one of them does not answer. */
async function everyExitNode(call: Call): Promise<Outcome> {
  const { files, paths, clock } = call.parts;
  const { coordinator: record, hosts } = await readConfig(files, paths.config);
  const [coordinator, { exitNodes: containers, unreached }] = await Promise.all([
    record === undefined ? undefined : attempt("coordinator", () => devicesOf(call)),
    listHosts(call, Object.keys(hosts)),
  ]);
  const refused = coordinator !== undefined && "error" in coordinator ? coordinator.error : undefined;
  const devices = coordinator !== undefined && "value" in coordinator ? coordinator.value : [];
  const exits = devices.filter(({ role }) => role === "exit-node");
  const now = clock.wall();
  const unjoined = refused === undefined ? "not in the network" : "not known";
  const names = new Set([...exits, ...containers].map(({ name }) => name));
  const rows = [...names].map((name) => {
    const exit = exits.find((one) => one.name === name);
    const container = containers.find((one) => one.name === name);
    const place = container === undefined ? "-" : `${container.vmid} on ${container.pveNode}, ${container.state}`;
    return [
      name,
      exit === undefined ? unjoined : presence(exit, now),
      place,
      exit?.routes.join(" ") ?? "",
      exit?.endpoints[0] ?? "",
    ];
  });
  const others = devices.length - exits.length;
  const text = [
    rows.length === 0
      ? "no exit node has joined yet"
      : renderTable([["EXIT NODE", "STATE", "CONTAINER", "ROUTES", "ENDPOINT"], ...rows]),
    renderTable([
      ...(refused === undefined ? [] : [["the coordinator", refused.message]]),
      ...unreached.map(({ host, error }) => [`host ${host}`, error.message]),
    ]),
    refused === undefined ? `${others} other device${others === 1 ? "" : "s"}` : "",
  ];
  return {
    value: {
      exitNodes: exits,
      devices: devices.length,
      containers,
      unreached,
      ...(refused === undefined ? {} : { coordinatorError: refused }),
    },
    text: text.filter((part) => part !== "").join("\n\n"),
    ...(refused === undefined && unreached.length === 0 ? {} : { exitCode: 1 }),
  };
}

async function oneExitNode(call: Call, name: string): Promise<Outcome> {
  const devices = await devicesOf(call);
  const exits = devices.filter(({ role }) => role === "exit-node");
  const exit = devices.find((device) => device.name === name);
  if (exit === undefined) {
    const known = exits.map((one) => one.name).join(", ") || "none";
    throw new Failure("exit-unknown", `the coordinator knows no device "${name}"; exit nodes: ${known}`, {
      advice: "exitnode list      (the containers on your hosts)",
    });
  }
  const apps = devices.filter((device) => device.app?.exit === name && device.revokedAtMs === undefined);
  const text = renderFolded([
    ["name", `${exit.name} (${exit.app === undefined ? exit.role : `WireGuard app, through ${exit.app.exit}`})`],
    ["state", presence(exit, call.parts.clock.wall())],
    ["addresses", exit.addresses.join(", ")],
    ["routes", exit.routes.join(", ") || "none"],
    exit.app === undefined
      ? ["endpoints", exit.endpoints.join(", ") || "none known: it has to call"]
      : ["dials", exit.app.endpoint],
    ...(exit.app === undefined ? [["agent", exit.agentVersion]] : []),
    ["key", exit.publicKey],
    ...(apps.length === 0 ? [] : [["WireGuard apps", apps.map((app) => app.name).join(", ")]]),
  ]);
  return { value: exit, text };
}

function presence(device: DeviceInfo, now: number): string {
  if (device.revokedAtMs !== undefined) return "revoked";
  if (device.online) return "online";
  return device.lastSeenAtMs === undefined ? "never seen" : `offline for ${formatDuration(now - device.lastSeenAtMs)}`;
}
