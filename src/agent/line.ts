import { fromBase64 } from "../kit/bytes.js";
import type { Cidr } from "../kit/ip.js";
import type { Files } from "../sys/files.js";
import { type AgentConfig, DEVICE_FILES } from "../wire/agentconfig.js";
import { decodeJoinKey } from "../wire/joinkey.js";
import type { NetworkMap } from "../wire/map.js";
import { ControlClient, type ControlParts } from "./control.js";
import { nearestFirst } from "./endpoints.js";
import type { Identity } from "./identity.js";
import type { Line } from "./statusreport.js";
import type { Traversal } from "./traversal.js";

export type LineParts = Required<ControlParts> & {
  readonly files: Files;
  readonly folders: { readonly var: string };
  readonly version: string;
};

export type LineEvents = {
  onMap(map: NetworkMap): void;
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
  events: LineEvents,
): Promise<ControlClient> {
  const { files, folders, log, version } = parts;
  const keyPath = `${folders.var}/${DEVICE_FILES.joinKey}`;
  const joinKey = await files.readText(keyPath);
  const joinSecret = joinKey === undefined ? undefined : decodeJoinKey(joinKey).secret;
  const { coordinator, name } = config;
  let line: Line = { connected: false };
  const say = (now: Line): void => {
    line = now;
    events.onLine(now);
  };
  return new ControlClient(
    parts,
    {
      urls: nearestFirst(coordinator.urls, networks),
      coordinatorKey: coordinator.publicKey,
      machineKey: identity.machine,
      hello: () => ({
        agentVersion: version,
        name,
        publicKey: identity.publicKey,
        report: traversal.report(),
        ...(joinSecret === undefined ? {} : { joinSecret }),
      }),
    },
    {
      onMap: (map) => events.onMap(map),
      onWelcome: () => void files.remove(keyPath),
      onAdmission: (admission) => traversal.admit(fromBase64(admission) ?? new Uint8Array()),
      onCall: (probe) => traversal.paths.called(probe),
      onRefused: ({ code, message, final }) => {
        say({ connected: false, reason: message, refusal: final ? code : undefined });
        log.error("refused by the coordinator", { code, message });
      },
      onState: (state) => {
        say(state.connected ? state : { ...line, url: undefined, ...state });
        traversal.setOnline(state.connected);
      },
    },
  );
}
