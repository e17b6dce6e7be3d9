import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { tryIp } from "../kit/ip.js";
import { tryJson } from "../kit/json.js";
import { renderRelayFiles } from "../netconf/relayfiles.js";
import { putService } from "../provision/machine.js";
import { RELAY_BUNDLES, relayService } from "../provision/services.js";
import { mustRun } from "../sys/exec.js";
import { openHttps } from "../sys/https.js";
import { coordinatorStatus, relayInfo } from "../wire/adminapi.js";
import { key, NAME_PATTERN, parseWith } from "../wire/schema.js";
import { callCoordinator } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { stepProgress } from "./createprogress.js";
import { loginToMachine } from "./machinelogin.js";
import { enterRelay, type RelayList } from "./relayentry.js";
import { hostOf, portOf, readBundles, sha256Hex, stunPortsFrom, templateOf, urlFor } from "./servicefiles.js";
import { renderTable } from "./table.js";

const REACH_TIMEOUT_MS = 5_000;
const UP_TO_DATE = "exitnode create, or exitnode coordinator up";
const OLDER = `the coordinator is of an older version and knows one STUN port of a relay; bring it up to date: ${UP_TO_DATE}`;
const identity = z.object({ publicKey: key, tlsFingerprint: z.string() });
const relaysAnswer = z.object({ relays: z.array(relayInfo) });

/** Puts a relay on a machine of one's own and into the network's map, or puts right the one that is there. */
export async function relayUp(call: Call): Promise<Outcome> {
  const { parts, options, signal } = call;
  const progress = await stepProgress(parts);
  const { admissionKey } = await callCoordinator(call, coordinatorStatus, "GET", "/status");
  if (admissionKey === undefined)
    throw new Failure("coordinator-old", "the coordinator is of a version that has no relays", {
      advice: `bring it up to date first: ${UP_TO_DATE}`,
    });
  const { ssh, host, where } = await loginToMachine(call);
  try {
    const name = nameFrom(options.name, host);
    const url = urlFor(typeof options.url === "string" ? options.url : undefined, host);
    const [port, stun] = [portOf(url), stunPortsFrom(options.stunPort)];
    const rendered = await renderRelayFiles(templateOf(parts), {
      port,
      ...stun,
      coordinatorKeys: [admissionKey],
      hosts: [hostOf(url)],
    });
    const service = relayService(rendered, await readBundles(parts, RELAY_BUNDLES), { port, ...stun }, sha256Hex);
    const changes = await putService({ ssh, progress, signal, where }, service);
    // Asked of the machine itself, over SSH: whoever answers at the URL proves nothing.
    const said = await mustRun(ssh, ["/usr/bin/node", "/opt/exitnode/relay.js", "identity"], { signal });
    const { publicKey, tlsFingerprint } = parseWith(identity, tryJson(said), "the relay's identity");
    const wanted = { url, relayKey: publicKey, ...stun, tlsFingerprint };
    const entered = await enterRelay(relayListOf(call), name, wanted);
    if (entered.changed) changes.push("entered it into the network's map");
    const reached = await isReached(call, url, tlsFingerprint);
    const value = {
      name,
      machine: where,
      changed: changes.length > 0,
      changes,
      ...wanted,
      coordinatorOld: entered.coordinatorOld,
      reached,
    };
    const lines = [
      value.changed
        ? `the relay "${name}" on ${where} works: ${url}, STUN on ${describeStun(stun)}`
        : `nothing to do: the relay "${name}" on ${where} is as wanted`,
      ...(entered.coordinatorOld ? [OLDER] : []),
      ...(reached ? [] : [`not reached from here: a firewall may have to let in tcp/${port}, ${describeStun(stun)}`]),
    ];
    return { value, text: lines.join("\n") };
  } finally {
    ssh.close();
  }
}

export async function listRelays(call: Call): Promise<Outcome> {
  const relays = await relayListOf(call).get();
  const rows = relays.map((relay) => [relay.name, relay.url, describeStun(relay), relay.kind]);
  const text = rows.length === 0 ? "no relays" : renderTable([["NAME", "URL", "STUN", "KIND"], ...rows]);
  return { value: { relays }, text };
}

const relayListOf = (call: Call): RelayList => ({
  get: async () => (await callCoordinator(call, relaysAnswer, "GET", "/relays")).relays,
  put: (name, relay) => callCoordinator(call, relayInfo, "PUT", `/relays/${name}`, relay),
});

export async function removeRelay(call: Call): Promise<Outcome> {
  const name = call.args[0] ?? "";
  await callCoordinator(call, z.unknown(), "DELETE", `/relays/${encodeURIComponent(name)}`);
  return {
    value: { removed: name },
    text: `${name} is out of the map; on its machine, it is stopped by: systemctl disable --now exitnode-relay`,
  };
}

function describeStun({
  stunPort,
  otherStunPort = 0,
}: {
  stunPort: number;
  otherStunPort?: number | undefined;
}): string {
  const ports = [stunPort, otherStunPort].filter((port) => port !== 0);
  return ports.length === 0 ? "none" : ports.map((port) => `udp/${port}`).join(" and ");
}

/** A machine's first label, where it has a name. */
function nameFrom(given: unknown, host: string): string {
  const name =
    typeof given === "string" ? given : tryIp(host) === undefined ? (host.split(".")[0] ?? "").toLowerCase() : "relay";
  if (NAME_PATTERN.test(name)) return name;
  throw new Failure("usage", `a relay's name is small letters, digits and hyphens such as relay1, got "${name}"`);
}

async function isReached({ signal }: Call, url: string, fingerprint: string): Promise<boolean> {
  const https = openHttps();
  try {
    return (await https.peerFingerprint(url, { deadlineMs: REACH_TIMEOUT_MS, signal })) === fingerprint;
  } catch {
    return false;
  } finally {
    https.close();
  }
}
