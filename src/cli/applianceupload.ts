import { buildAppliance } from "../appliance/image.js";
import { verifyAppliance } from "../appliance/verify.js";
import { Failure } from "../kit/failure.js";
import type { PveHost, Volume } from "../pve/guests.js";
import { version } from "../version.js";
import { signAppliance, verifyingKey } from "./appliancekey.js";
import type { Call, Outcome } from "./command.js";
import { onlyHost, openHost } from "./hosts.js";

/** `appliance upload`: nothing leaves this machine that is not signed and whole, and Proxmox checks the sum once more. */

export async function uploadAction({ args: [file], options, parts, signal }: Call): Promise<Outcome> {
  const name = typeof options.host === "string" ? options.host : await onlyHost(parts);
  const { entry, pve } = await openHost(parts, name, { signal });
  try {
    const path = file ?? (await builtHere(parts, signal));
    const publicKey = await verifyingKey(parts, options.publicKey);
    const manifest = await verifyAppliance(parts, path, { signal, publicKey });
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

async function builtHere(parts: Call["parts"], signal: AbortSignal): Promise<string> {
  const { path } = await buildAppliance(parts, { version, signal });
  await signAppliance(parts, path);
  return path;
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
