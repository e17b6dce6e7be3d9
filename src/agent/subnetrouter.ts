import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { type Cidr, cidrAddress } from "../kit/ip.js";
import { tryJson } from "../kit/json.js";
import { isSubnets, REMOVE_SUBNETS, renderSubnets, SUBNETS_TABLE } from "../netconf/subnetrouter.js";
import type { Exec } from "../sys/exec.js";
import type { Files } from "../sys/files.js";
import type { AgentConfig } from "../wire/agentconfig.js";

/** Makes the machine pass on between the tunnel and the networks that it offers, and gives it back as it was. */

type Parts = { readonly exec: Exec; readonly files: Files; readonly folders: { readonly var: string } };

/** Devices that forward because of us: on disk, for the undo may be another process's. */
const FILE = "forwarding-before.json";
const fileOf = ({ folders }: Parts): string => `${folders.var}/${FILE}`;
const forwardingFile = z.object({ devices: z.array(z.string().regex(/^[^/\s]{1,15}$/)) });
const routeGot = z.array(z.object({ dev: z.string().regex(/^[^/\s]{1,15}$/) })).min(1);

export async function setSubnets(
  parts: Parts,
  { interface: device, advertise = [], masquerade = true, role }: AgentConfig,
): Promise<void> {
  // An exit node's firewall is its own, and says what of the home may be reached.
  if (advertise.length === 0 || role === "exit-node") return clearSubnets(parts);
  const router = { device, subnets: advertise, masquerade };
  const changed = new Set(await recall(parts));
  const note = async (name: string): Promise<void> => {
    if (changed.has(name)) return;
    changed.add(name);
    await parts.files.write(fileOf(parts), `${JSON.stringify({ devices: [...changed] })}\n`);
  };
  await note(device);
  const listed = await parts.exec.run(["nft", "list", "table", "inet", SUBNETS_TABLE]);
  if (listed.exitCode !== 0 || !isSubnets(listed.stdout, router))
    await must(parts.exec, ["nft", "-f", "-"], renderSubnets(router));
  // One device at a time, not ip_forward: the machine's other networks are none of ours. (IPv6 knows only all at once,
  // and a machine that forwards it no longer listens to its own router: it is not offered.)
  for (const name of new Set([device, ...(await devicesTo(parts.exec, advertise))])) {
    if ((await parts.files.readText(forwardingOf(name)))?.trim() === "1") continue;
    await note(name);
    await must(parts.exec, ["tee", forwardingOf(name)], "1\n");
  }
}

/** Nothing where nothing was set; safe to repeat. */
export async function clearSubnets(parts: Parts): Promise<void> {
  const devices = await recall(parts);
  if (devices.length === 0) return;
  await must(parts.exec, ["nft", "-f", "-"], REMOVE_SUBNETS);
  // Whoever has meanwhile made the whole machine forward wants this one to as well.
  const isForAll = (await parts.files.readText(forwardingOf("all")))?.trim() === "1";
  for (const name of isForAll ? [] : devices)
    if ((await parts.files.readText(forwardingOf(name))) !== undefined)
      await must(parts.exec, ["tee", forwardingOf(name)], "0\n");
  await parts.files.remove(fileOf(parts));
}

const forwardingOf = (device: string): string => `/proc/sys/net/ipv4/conf/${device}/forwarding`;

async function recall(parts: Parts): Promise<readonly string[]> {
  return forwardingFile.safeParse(tryJson((await parts.files.readText(fileOf(parts))) ?? "")).data?.devices ?? [];
}

/** Where those networks are, seen from here. */
async function devicesTo(exec: Exec, subnets: readonly Cidr[]): Promise<string[]> {
  const devices: string[] = [];
  for (const subnet of subnets) {
    const ran = await exec.run(["ip", "-4", "-j", "route", "get", cidrAddress(subnet)]);
    const found = routeGot.safeParse(tryJson(ran.stdout)).data?.[0]?.dev;
    if (found !== undefined) devices.push(found);
  }
  return devices;
}

async function must(exec: Exec, argv: readonly string[], input: string): Promise<void> {
  const ran = await exec.run(argv, { input });
  if (ran.exitCode !== 0)
    throw new Failure("forwarding-not-set", `${argv.join(" ")} failed: ${ran.stderr.trim().slice(0, 300)}`, {
      advice: "exitnode up --advertise none    (offer no networks)",
    });
}
