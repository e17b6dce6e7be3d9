import { fromBase64 } from "../kit/bytes.js";
import { asFailure } from "../kit/failure.js";
import type { Cidr } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import type { Files } from "../sys/files.js";
import { type AgentConfig, DEVICE_FILES } from "../wire/agentconfig.js";
import { decodeJoinKey } from "../wire/joinkey.js";
import { signStatement } from "../wire/lock.js";
import type { MapPeer } from "../wire/map.js";
import { ControlClient, type ControlParts } from "./control.js";
import { nearestFirst } from "./endpoints.js";
import type { Identity } from "./identity.js";
import { latestOnly } from "./latest.js";
import { type Memory, rememberSealed, rememberUnsealed } from "./memory.js";
import type { Line } from "./statusreport.js";
import type { Traversal } from "./traversal.js";

export type LineParts = Required<ControlParts> & {
  readonly files: Files;
  readonly folders: { readonly var: string };
  readonly version: string;
};

export type LineEvents = {
  /** The atlas has another map; `gone`: who was in the one before. Fulfilled when they are shut out. */
  onMap(gone: readonly MapPeer[]): Promise<void>;
  /** This device's WireGuard key is another one from now on. */
  onRekeyed(): void;
  /** Connected, or why not. */
  onLine(line: Line): void;
};

/** The line to the coordinator as this device wants it: who it says it is, and where what comes in belongs. */
export async function openControl(
  parts: LineParts,
  config: AgentConfig,
  identity: Identity,
  traversal: Traversal,
  networks: readonly Cidr[],
  { atlas, lock }: Pick<Memory, "atlas" | "lock">,
  events: LineEvents,
): Promise<ControlClient> {
  const { files, folders, log, version } = parts;
  const keyPath = `${folders.var}/${DEVICE_FILES.joinKey}`;
  const joinKey = await files.readText(keyPath);
  let joinSecret = joinKey === undefined ? undefined : decodeJoinKey(joinKey).secret;
  const { coordinator, name } = config;
  let line: Line = { connected: false };
  const say = (now: Line): void => {
    line = now;
    events.onLine(now);
  };
  let sealKey: Key | undefined;
  let offered = identity.wireguard.offered;
  const said = (): Key => {
    offered = identity.wireguard.offered;
    return offered;
  };
  const write = latestOnly(() =>
    sealKey === undefined
      ? rememberUnsealed(files, folders.var, atlas)
      : rememberSealed(files, folders.var, atlas, sealKey),
  );
  const keep = (): void =>
    void write().catch((error: unknown) => log.error("the map was not saved", { message: asFailure(error).message }));
  const client = new ControlClient(
    parts,
    {
      atlas,
      // Read at every try: the coordinator may have said that it moves.
      get urls() {
        return nearestFirst([...new Set([...(atlas.map?.coordinatorUrls ?? []), ...coordinator.urls])], networks);
      },
      coordinatorKey: coordinator.publicKey,
      machineKey: identity.machine,
      hello() {
        const report = traversal.report();
        const publicKey = said();
        const { key } = identity.lock;
        return {
          ...{ agentVersion: version, name, publicKey, report },
          lock: { key, statement: signStatement(identity.lock, { ...report, publicKey }) },
          ...(joinSecret === undefined ? {} : { joinSecret }),
        };
      },
    },
    {
      onMap(map, gone) {
        lock.offer(map.lock);
        const { dispute } = lock;
        if (dispute !== undefined) {
          say({ connected: false, reason: dispute, refusal: "lock-differs" });
          log.error("not joining", { reason: dispute });
          client.quit(dispute);
          return undefined;
        }
        // A coordinator that seals does so soon; until then the file is the last map that can be believed.
        if (sealKey === undefined) keep();
        return events.onMap(gone);
      },
      onSealed: keep,
      onWelcome(welcome) {
        sealKey = welcome.sealKey;
        // Said once: with a key of many uses, every reconnection would renew this device for ever.
        joinSecret = undefined;
        if (identity.wireguard.welcomed(offered)) {
          identity.wireguard.keep().catch((error: unknown) => {
            log.error("the new WireGuard key was not saved", { message: asFailure(error).message });
          });
          events.onRekeyed();
        }
        void files.remove(keyPath);
      },
      onAdmission: (admission) => traversal.admit(fromBase64(admission) ?? new Uint8Array()),
      onCall: (probe) => traversal.called(probe),
      onRefused: ({ code, message, final }) => {
        say({ connected: false, reason: message, refusal: final ? code : undefined });
        log.error("refused by the coordinator", { code, message });
      },
      onState: (state) => {
        say(state.connected ? state : { ...line, url: undefined, ...state });
        traversal.relays.setOnline(state.connected);
      },
    },
  );
  return client;
}
