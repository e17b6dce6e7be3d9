import { existsSync } from "node:fs";
import { words } from "../format.js";
import { refuseLocked } from "../guest.js";
import {
  digestOf,
  type GuestConfig,
  outward,
  outwardAll,
  renderConfig,
  splitOption,
  withPending,
} from "../guestconfig.js";
import { devices } from "../lxcconfig.js";
import { propertiesOf } from "../method.js";
import { storedNet } from "../network.js";
import { requireOptions, requireSpace, storedDescription, storedTags } from "../option.js";
import { propertyOf } from "../property.js";
import { type Call, type Handlers, vmidOf } from "../pve.js";
import { badParameters, failed } from "../refusal.js";
import { sizeOf } from "../status.js";

export const STALE = "detected modified configuration - file changed by other user? Try again.";

export const configMethods: Handlers = {
  "GET /nodes/{node}/lxc/{vmid}/config": (call) => {
    const { config, digest } = call.pve.guests.read(vmidOf(call));
    const options = call.params.current === 1 ? config.options : withPending(config);
    return { ...outwardAll(options), digest };
  },

  "GET /nodes/{node}/lxc/{vmid}/pending": (call) => {
    const { config, digest } = call.pve.guests.read(vmidOf(call));
    const keys = new Set([...Object.keys(config.options), ...Object.keys(config.pending)]);
    const rows = [...keys].map((key) => ({
      key,
      ...(config.options[key] === undefined ? {} : { value: outward(key, config.options[key]) }),
      ...(config.pending[key] === undefined ? {} : { pending: outward(key, config.pending[key]) }),
      ...(config.pendingDelete.has(key) ? { delete: 1 } : {}),
    }));
    return [...rows, { key: "digest", value: digest }];
  },

  "PUT /nodes/{node}/lxc/{vmid}/config": put,

  "PUT /nodes/{node}/lxc/{vmid}/resize": (call) => {
    const { pve, caller, params } = call;
    const vmid = vmidOf(call);
    requireOptions(call, vmid, { description: "" });
    const { config } = pve.guests.read(vmid);
    refuseLocked(config);
    const disk = String(params.disk);
    const option = config.options[disk];
    if (option === undefined) throw failed(`disk '${disk}' does not exist`);
    requireSpace(call, option);
    const wanted = String(params.size);
    const now = sizeOf(option);
    const size = sizeOf(`size=${wanted.replace("+", "")}`) + (wanted.startsWith("+") ? now : 0);
    if (size < now) throw failed("unable to shrink disk size");
    return pve.tasks.start("resize", String(vmid), caller, async () => {
      const current = pve.guests.read(vmid).config;
      current.options[disk] = option.replace(/size=[^,]+/, `size=${size / 1024 ** 3}G`);
      pve.guests.write(vmid, current);
    });
  },
};

/** Options a running container takes at once; the others wait for its next start. */
const LIVE =
  /^(?:description|onboot|startup|protection|hostname|tags|cores|lock|memory|swap|cpulimit|cpuunits|(?:net|mp|dev)\d+)$/;

async function put(call: Call): Promise<null> {
  const { pve, params } = call;
  const vmid = vmidOf(call);
  const { node: _, vmid: __, digest, delete: deletions, revert, ...given } = params;
  const deleted = words(String(deletions ?? ""));
  const reverted = words(String(revert ?? ""));
  const set = Object.fromEntries(Object.entries(given).map(([key, value]) => [key, String(value)]));
  if (Object.keys(set).length + deleted.length + reverted.length === 0) throw failed("no options specified");
  requireKnown("delete", deleted);
  requireKnown("revert", reverted);
  requireOptions(call, vmid, {
    ...Object.fromEntries(deleted.map((key) => [key, undefined])),
    ...without(set, "rootfs"),
  });
  for (const key of Object.keys(set))
    if (key === "rootfs" || /^mp\d+$/.test(key)) requireOptions(call, vmid, { [key]: set[key] });
  requireDevices(set);
  await pve.guests.locked(vmid, async () => {
    const { config, digest: now } = pve.guests.read(vmid);
    if (digest !== undefined && digest !== now) throw failed(STALE);
    refuseLocked(config);
    if ("unprivileged" in set) throw failed("unable to modify read-only option: 'unprivileged'");
    const before = { ...config.options };
    const running = pve.runtime.running(vmid) !== undefined;
    for (const key of reverted) {
      delete config.pending[key];
      config.pendingDelete.delete(key);
    }
    for (const key of deleted) remove(config, key, running);
    for (const [key, value] of Object.entries(set)) change(config, key, stored(key, value), running);
    if (running) await pve.runtime.update(vmid, before, config.options);
    if (digestOf(renderConfig(config)) !== now) pve.guests.write(vmid, config);
  });
  return null;
}

function requireKnown(parameter: string, keys: readonly string[]): void {
  const properties = propertiesOf("PUT /nodes/{node}/lxc/{vmid}/config");
  const wrong = keys.find((key) => propertyOf(properties, key) === undefined);
  if (wrong !== undefined) throw badParameters({ [parameter]: `unknown option '${wrong}'` });
}

function requireDevices(options: Record<string, string>): void {
  const missing = devices(options).find(({ path }) => !existsSync(path));
  if (missing !== undefined) throw failed(`Device ${missing.path} does not exist`);
}

function without(options: Record<string, string>, ...keys: readonly string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(options).filter(([key]) => !keys.includes(key) && !/^mp\d+$/.test(key)));
}

function stored(key: string, value: string): string {
  if (/^net\d+$/.test(key)) return storedNet(value);
  if (key === "tags") return storedTags(value);
  return key === "description" ? storedDescription(value) : value;
}

function remove(config: GuestConfig, key: string, running: boolean): void {
  // What exists only as pending stays pending: `revert` is for that.
  if (config.options[key] === undefined) return;
  if (!running || LIVE.test(key)) delete config.options[key];
  else config.pendingDelete.add(key);
}

function change(config: GuestConfig, key: string, value: string, running: boolean): void {
  if (running && /^net\d+$/.test(key) && !sameInterface(config.options[key], value))
    throw badParameters({
      [key]: `unable to hotplug ${key}: only address and MAC of an interface can change while running`,
    });
  if (!running || LIVE.test(key)) config.options[key] = value;
  else if (config.options[key] !== value) config.pending[key] = value;
}

function sameInterface(before: string | undefined, after: string): boolean {
  if (before === undefined) return false;
  const [old, wanted] = [splitOption(before), splitOption(after)];
  return old.name === wanted.name && old.bridge === wanted.bridge;
}
