import { setTimeout as delay } from "node:timers/promises";
import { splitOption } from "../../src/lab/pve/guestconfig.js";
import type { Runtime } from "../../src/lab/pve/runtime.js";

/** How long a start takes: long enough that a second request finds it under way. */
const START_MS = 300;

/** Containers that only exist as far as the API can tell: started, stopped, with the address their option names. */
export class ModelRuntime implements Runtime {
  readonly #started = new Map<number, Record<string, string>>();

  running(vmid: number): ReturnType<Runtime["running"]> {
    if (!this.#started.has(vmid)) return undefined;
    const numbers = { uptimeSeconds: 1, memoryBytes: 12_000_000, cpuSeconds: 0.1, receivedBytes: 220, sentBytes: 586 };
    return { pid: 4_000 + vmid, ...numbers };
  }

  async start(vmid: number, _root: string, options: Record<string, string>): Promise<void> {
    await delay(START_MS);
    this.#started.set(vmid, options);
  }

  async kill(vmid: number): Promise<void> {
    this.#started.delete(vmid);
  }

  async shutdown(vmid: number): Promise<boolean> {
    return this.#started.delete(vmid);
  }

  async addresses(vmid: number): Promise<string> {
    const net = splitOption(this.#started.get(vmid)?.net0 ?? "");
    const [local = "", length = "24"] = (net.ip ?? "").split("/");
    const lo = [
      { family: "inet", local: "127.0.0.1", prefixlen: 8 },
      { family: "inet6", local: "::1", prefixlen: 128 },
    ];
    const eth0 = [
      { family: "inet", local, prefixlen: Number(length) },
      { family: "inet6", local: "fe80::1", prefixlen: 64 },
    ];
    return JSON.stringify([
      { ifname: "lo", address: "00:00:00:00:00:00", addr_info: lo },
      { ifname: "eth0", address: net.hwaddr?.toLowerCase(), addr_info: eth0 },
    ]);
  }

  async update(vmid: number, _before: Record<string, string>, after: Record<string, string>): Promise<void> {
    this.#started.set(vmid, after);
  }

  async freeze(): Promise<void> {}

  forget(): void {}
}
