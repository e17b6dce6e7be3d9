import { type ContainerValues, renderContainerFiles } from "../netconf/containerfiles.js";
import { RELAY_COMMANDS, type RelayFile } from "../netconf/relayfiles.js";
import type { Service } from "./machine.js";
import type { WantedFile } from "./payload.js";

/** The two services that run on a machine of one's own, from the same files as in a container. */

/** A bundle of dist/, and where it goes. */
export type Bundle = { readonly from: string; readonly content: Uint8Array };

export const COORDINATOR_BUNDLES: readonly string[] = ["package.json", "libsql.node", "coordinator.js"];
export const RELAY_BUNDLES: readonly string[] = ["package.json", "relay.js"];

const FOLDER = "/opt/exitnode";
const SYSUSERS = "/etc/sysusers.d/exitnode.conf";
const COORDINATOR_UNIT = "exitnode-coordinator.service";
const RELAY_UNIT = "exitnode-relay.service";
/** Of a container's files, those that a coordinator needs: its firewall and the rest are an exit node's. */
const COORDINATOR_FILES = [SYSUSERS, `/etc/systemd/system/${COORDINATOR_UNIT}`, "/etc/exitnode/coordinator.yaml"];

type Sha256 = (content: string | Uint8Array) => string;

export function coordinatorService(
  templates: Readonly<Record<string, string>>,
  bundles: readonly Bundle[],
  coordinator: NonNullable<ContainerValues["coordinator"]>,
  { architecture, memoryMiB }: { readonly architecture: string; readonly memoryMiB: number },
  sha256: Sha256,
): Service {
  const rendered = renderContainerFiles(templates, { coordinator, memoryMiB, agentBeside: false })
    .filter(({ path }) => COORDINATOR_FILES.includes(path))
    .map(
      ({ path, mode, owner, group, content }): WantedFile => wanted(path, mode, `${owner}:${group}`, content, sha256),
    );
  return {
    name: "coordinator",
    unit: COORDINATOR_UNIT,
    files: [...rendered, ...bundles.map((bundle) => pushed(bundle, sha256))],
    users: { path: SYSUSERS, command: ["systemd-sysusers", SYSUSERS] },
    commands: [
      ["systemctl", "daemon-reload"],
      ["systemctl", "enable", COORDINATOR_UNIT],
      ["systemctl", "restart", COORDINATOR_UNIT],
    ],
    tcpPort: coordinator.port ?? 443,
    udpPort: coordinator.stunPort ?? 3_478,
    architecture,
  };
}

export function relayService(
  rendered: readonly RelayFile[],
  bundles: readonly Bundle[],
  ports: { readonly port: number; readonly stunPort: number },
  sha256: Sha256,
): Service {
  return {
    name: "relay",
    unit: RELAY_UNIT,
    files: [
      ...rendered.map(({ path, mode, content }) => wanted(path, mode, "root:root", content, sha256)),
      ...bundles.map((bundle) => pushed(bundle, sha256)),
    ],
    commands: RELAY_COMMANDS,
    tcpPort: ports.port,
    udpPort: ports.stunPort,
    architecture: undefined,
  };
}

const pushed = ({ from, content }: Bundle, sha256: Sha256): WantedFile =>
  wanted(`${FOLDER}/${from}`, 0o644, "root:root", content, sha256);

const wanted = (
  path: string,
  mode: number,
  owner: string,
  content: string | Uint8Array,
  sha256: Sha256,
): WantedFile => ({
  path,
  mode,
  owner,
  content,
  sha256: sha256(content),
  onChange: [],
});
