import { isRecord, isRecordArray } from "../json.js";
import { isRoot } from "../permission.js";
import { rebootTask, shutdownTask, startTask, stopTask } from "../power.js";
import { type Call, type Handlers, vmidOf } from "../pve.js";
import { badParameters, failed } from "../refusal.js";
import { guestStatus } from "../status.js";

/** How long a shutdown may take unless told otherwise, in seconds. */
const SHUTDOWN_S = 60;

/** The life of one container. */
export const guestMethods: Handlers = {
  "GET /nodes/{node}/lxc/{vmid}/status": () =>
    ["current", "start", "stop", "shutdown", "reboot"].map((subdir) => ({ subdir })),

  "GET /nodes/{node}/lxc/{vmid}/status/current": (call) => ({
    ...guestStatus(call.pve, vmidOf(call)),
    ha: { managed: 0 },
  }),

  "POST /nodes/{node}/lxc/{vmid}/status/start": (call) => {
    refuseSkiplock(call);
    const vmid = vmidOf(call);
    if (call.pve.runtime.running(vmid) !== undefined) throw failed(`CT ${vmid} already running`);
    return startTask(call.pve, call.caller, vmid);
  },

  "POST /nodes/{node}/lxc/{vmid}/status/stop": (call) => {
    refuseSkiplock(call);
    const vmid = vmidOf(call);
    requireRunning(call, `CT ${vmid} not running`);
    return stopTask(call.pve, call.caller, vmid);
  },

  "POST /nodes/{node}/lxc/{vmid}/status/shutdown": (call) => {
    requireRunning(call, `CT ${vmidOf(call)} not running`);
    const timeoutS = Number(call.params.timeout ?? SHUTDOWN_S);
    return shutdownTask(call.pve, call.caller, vmidOf(call), { timeoutS, force: call.params.forceStop === 1 });
  },

  "POST /nodes/{node}/lxc/{vmid}/status/reboot": (call) => {
    requireRunning(call, `VM ${vmidOf(call)} not running`);
    return rebootTask(call.pve, call.caller, vmidOf(call), Number(call.params.timeout ?? SHUTDOWN_S));
  },

  "GET /nodes/{node}/lxc/{vmid}/interfaces": async (call) => {
    const vmid = vmidOf(call);
    call.pve.guests.read(vmid);
    if (call.pve.runtime.running(vmid) === undefined) return null;
    return interfaces(await call.pve.runtime.addresses(vmid));
  },
};

function refuseSkiplock({ caller, params }: Call): void {
  if (params.skiplock === 1 && !isRoot(caller)) throw badParameters({ skiplock: "Only root may use this option." });
}

function requireRunning(call: Call, otherwise: string): void {
  if (call.pve.runtime.running(vmidOf(call)) === undefined) throw failed(otherwise);
}

/** `ip --json a` as Proxmox passes it on: prefixes are strings, and the old fields show one address a family. */
function interfaces(json: string): unknown[] {
  const links: unknown = JSON.parse(json);
  if (!isRecordArray(links)) return [];
  return links.map((link) => {
    const infos = isRecordArray(link.addr_info) ? link.addr_info.filter(isRecord) : [];
    const addresses = infos.map((info) => ({
      "ip-address": String(info.local),
      prefix: String(info.prefixlen),
      "ip-address-type": String(info.family),
    }));
    const first = (family: string): string | undefined => {
      const found = addresses.find((address) => address["ip-address-type"] === family);
      return found === undefined ? undefined : `${found["ip-address"]}/${found.prefix}`;
    };
    const inet = first("inet");
    const inet6 = first("inet6");
    return {
      name: link.ifname,
      hwaddr: link.address,
      "hardware-address": link.address,
      "ip-addresses": addresses,
      ...(inet === undefined ? {} : { inet }),
      ...(inet6 === undefined ? {} : { inet6 }),
    };
  });
}
