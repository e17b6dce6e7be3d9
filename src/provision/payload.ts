import { isPrivate, tryIp } from "../kit/ip.js";
import {
  type ContainerAction,
  type ContainerValues,
  PUSHED_FILES,
  renderContainerFiles,
} from "../netconf/containerfiles.js";
import type { ExitNodeSpec } from "./spec.js";

/** Every file a container is to hold, with what follows when one of them changes. */
export type WantedFile = {
  readonly path: string;
  readonly mode: number;
  /** "user:group" */
  readonly owner: string;
  readonly content: string | Uint8Array;
  readonly sha256: string;
  readonly onChange: readonly ContainerAction[];
};

/** What this package brings along: templates/*.hbs by name, and the bundles of dist/ by name. */
export type Payload = {
  /** What the agent among the bundles calls itself. */
  readonly version: string;
  readonly templates: Readonly<Record<string, string>>;
  readonly bundles: Readonly<Record<string, Uint8Array>>;
  /** Lower-case hex of the bundles, worked out once. */
  readonly bundleSha256: Readonly<Record<string, string>>;
};

/** The coordinator a device is to know: what the files of the agent need of it. */
export type CoordinatorFacts = { readonly urls: readonly string[]; readonly publicKey: string };

/** What files depend on and only the running container tells. */
export type FileInputs = {
  readonly spec: ExitNodeSpec;
  readonly address: string;
  readonly publicAddress: string | undefined;
  readonly formerAddress: string | undefined;
  readonly resolvers: readonly string[];
  readonly dataPlane: "kernel" | "userspace";
  /** Set when the coordinator runs in this container. */
  readonly ownCoordinator: { readonly adminTokenSha256: string } | undefined;
  /** Set once it answers. */
  readonly coordinator: CoordinatorFacts | undefined;
};

/** Where it listens in a container of ours. */
export const WIREGUARD_PORT = 51_820;

export function wantedFiles(payload: Payload, inputs: FileInputs, sha256: (content: string) => string): WantedFile[] {
  const rendered = renderContainerFiles(payload.templates, containerValuesOf(inputs)).map(
    ({ path, mode, owner, group, content, onChange }): WantedFile => ({
      path,
      mode,
      owner: `${owner}:${group}`,
      content,
      sha256: sha256(content),
      onChange: inputs.ownCoordinator === undefined ? onChange.filter((action) => action !== "coordinator") : onChange,
    }),
  );
  const pushed = PUSHED_FILES.flatMap(({ from, path, mode, onChange }): WantedFile[] => {
    const content = payload.bundles[from];
    const sum = payload.bundleSha256[from];
    const forCoordinator = onChange.every((action) => action === "coordinator");
    if (content === undefined || sum === undefined || (forCoordinator && inputs.ownCoordinator === undefined))
      return [];
    // An agent without a configuration is not started: its bundle may come before it.
    const actions = onChange.filter((action) => action !== "coordinator" || inputs.ownCoordinator !== undefined);
    return [{ path, mode, owner: "root:root", content, sha256: sum, onChange: actions }];
  });
  const waiting = inputs.coordinator === undefined;
  return [...rendered, ...pushed].map((file) =>
    waiting ? { ...file, onChange: file.onChange.filter((action) => action !== "agent") } : file,
  );
}

/** How a coordinator in this container is reached, by the addresses known: from anywhere first, from the LAN last. */
export function ownUrls(addresses: readonly (string | undefined)[]): string[] {
  const hosts = [...new Set(addresses)].filter((host) => host !== undefined);
  return hosts.map((host) => `https://${host.includes(":") ? `[${host}]` : host}:443`);
}

function containerValuesOf(inputs: FileInputs): ContainerValues {
  const { spec, coordinator, ownCoordinator } = inputs;
  const gateway6 = spec.given.gateway6;
  return {
    memoryMiB: spec.memoryMib,
    listenPort: WIREGUARD_PORT,
    allowLan: [...spec.allowLan],
    resolvers: inputs.resolvers.filter((text) => tryIp(text) !== undefined),
    gateways6: gateway6 === undefined ? [] : [gateway6],
    ...(ownCoordinator === undefined
      ? {}
      : {
          coordinator: {
            urls: ownUrls([inputs.publicAddress, inputs.formerAddress, inputs.address]),
            adminTokenSha256: ownCoordinator.adminTokenSha256,
            whoami: [...spec.whoami],
          },
        }),
    ...(coordinator === undefined
      ? {}
      : {
          agent: {
            name: spec.name,
            urls: [...coordinator.urls],
            publicKey: coordinator.publicKey,
            dataPlane: inputs.dataPlane,
            forwardedPort: WIREGUARD_PORT,
            whoami: [...spec.whoami],
          },
        }),
  };
}

/** A public address that somebody sees from outside; a private one is the router's own side of a second NAT. */
export function publicFrom(whoami: string | undefined): string | undefined {
  const ip = whoami === undefined ? undefined : tryIp(whoami);
  return ip === undefined || isPrivate(ip) ? undefined : ip;
}
