import { Failure } from "../kit/failure.js";
import type { PveHost, Volume } from "../pve/guests.js";
import type { Call, Command, Outcome } from "./command.js";

/** `appliance build / verify / upload`: the container template. */
export const applianceCommands: readonly Command[] = [
  {
    usage: "appliance build",
    summary: "Build the container template from Debian's packages, as root",
    options: [
      { flags: "--mirror <URL>", description: "the Debian archive to take packages from; default: apt's own" },
      { flags: "--fresh", description: "build even if the same was built in the last seven days" },
    ],
    async run({ options, parts, signal }) {
      const { buildAppliance } = await import("../appliance/image.js");
      const { version } = await import("../version.js");
      const mirror = options.mirror;
      const built = await buildAppliance(parts, {
        version,
        signal,
        fresh: options.fresh === true,
        ...(typeof mirror === "string" ? { mirror } : {}),
      });
      return {
        value: { path: built.path, built: built.built, ...built.manifest },
        text: `${built.path}\nsha512 ${built.manifest.sha512}`,
      };
    },
  },
  {
    usage: "appliance verify <file>",
    summary: "Compare a template with its manifest and look for what none may contain",
    async run({ args: [file = ""], parts, signal }) {
      const { verifyAppliance } = await import("../appliance/image.js");
      const manifest = await verifyAppliance(parts, file, { signal });
      return {
        value: { path: file, ...manifest },
        text: `${manifest.name} is whole: ${manifest.packages.length} packages, sha512 ${manifest.sha512.slice(0, 32)}…`,
      };
    },
  },
  {
    usage: "appliance upload [file]",
    summary: "Put the template into a storage of a Proxmox host, building it first if need be",
    options: [
      {
        flags: "--host <HOST>",
        description: "the Proxmox host, as it is called in `host list`; not needed with only one",
      },
      {
        flags: "--storage <ID>",
        description: "a storage for container templates; default: the first that may hold them",
      },
    ],
    run: uploadAppliance,
  },
];

async function uploadAppliance({ args: [file], options, parts, signal }: Call): Promise<Outcome> {
  const { buildAppliance, verifyAppliance } = await import("../appliance/image.js");
  const { onlyHost, openHost } = await import("./hosts.js");
  const { version } = await import("../version.js");
  const name = typeof options.host === "string" ? options.host : await onlyHost(parts);
  const { entry, pve } = await openHost(parts, name, { signal });
  try {
    const path = file ?? (await buildAppliance(parts, { version, signal })).path;
    const manifest = await verifyAppliance(parts, path, { signal });
    const node = entry.pveNode ?? (await onlyNode(pve, name));
    const wanted = typeof options.storage === "string" ? options.storage : entry.defaults.templateStorage;
    const storage = await templateStorage(pve, node, wanted);
    const there = (await pve.templates(node, storage)).find((volume) => isSame(volume, manifest));
    const volume =
      there ??
      (await pve.upload(
        node,
        storage,
        { path, name: manifest.name, sizeBytes: manifest.bytes, sha512: manifest.sha512 },
        { signal, onProgress: tenths(manifest.bytes, (percent) => parts.say(`sent ${percent} % to ${name}`)) },
      ));
    return {
      value: { host: name, node, storage, volid: volume.volid, uploaded: there === undefined },
      text: `${volume.volid} ${there === undefined ? "is on" : "was already on"} ${name}`,
    };
  } finally {
    pve.close();
  }
}

const isSame = (volume: Volume, file: { name: string; bytes: number }): boolean =>
  volume.volid.endsWith(`/${file.name}`) && volume.sizeBytes === file.bytes;

async function onlyNode(pve: PveHost, host: string): Promise<string> {
  const nodes = await pve.nodes();
  if (nodes.length === 1 && nodes[0] !== undefined) return nodes[0].name;
  throw new Failure("pve-node-unknown", `host ${host} is a cluster of ${nodes.map((node) => node.name).join(", ")}`, {
    advice: `exitnode host add ${host} --pve-node ${nodes[0]?.name ?? "<node>"}`,
  });
}

async function templateStorage(pve: PveHost, node: string, wanted: string | undefined): Promise<string> {
  const able = (await pve.storages(node)).filter((storage) => storage.active && storage.content.includes("vztmpl"));
  const chosen = wanted === undefined ? able[0] : able.find((storage) => storage.id === wanted);
  if (chosen !== undefined) return chosen.id;
  const names = able.map((storage) => storage.id).join(", ") || "none";
  throw new Failure(
    "storage-unfit",
    `${wanted === undefined ? "no storage" : `storage ${wanted}`} of ${node} may hold container templates for this login; able: ${names}`,
    { advice: "pvesm set local --content vztmpl,iso,backup   (on the host), or name another with --storage" },
  );
}

/** Calls back once per tenth of the file. */
function tenths(total: number, say: (percent: number) => void): (sent: number) => void {
  let said = 0;
  return (sent) => {
    const percent = Math.floor((10 * sent) / total) * 10;
    if (percent > said) say(percent);
    said = Math.max(said, percent);
  };
}
