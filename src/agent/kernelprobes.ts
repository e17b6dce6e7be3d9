import { datagramKind } from "../kit/datagramkind.js";
import type { Endpoint } from "../kit/endpoint.js";
import { asFailure, Failure } from "../kit/failure.js";
import { isProbeMux, PROBE_MUX_TABLE, probePortOf, REMOVE_PROBE_MUX, renderProbeMux } from "../netconf/probemux.js";
import type { DatagramSocket } from "../sys/dgram.js";
import type { Exec } from "../sys/exec.js";
import type { Probes } from "../wireguard/interface.js";

export type OpenSocket = (port: number) => Promise<DatagramSocket>;

/** Datagrams on kernel WireGuard's port: a socket on the port beside it, and nftables between the two. */
export class KernelProbes implements Probes {
  onReceive: ((datagram: Uint8Array, from: Endpoint) => void) | undefined;
  readonly #exec: Exec;
  readonly #open: OpenSocket;
  #socket: DatagramSocket | undefined;

  constructor(exec: Exec, open: OpenSocket) {
    this.#exec = exec;
    this.#open = open;
  }

  send(to: Endpoint, datagram: Uint8Array): void {
    this.#socket?.send(to, datagram);
  }

  /** Follows WireGuard's port. What stands in the way comes back in words: a tunnel works without probes. */
  async follow(listenPort: number): Promise<string | undefined> {
    try {
      await this.#bind(probePortOf(listenPort));
      await this.#rewrite({ listenPort, probePort: probePortOf(listenPort) });
      return undefined;
    } catch (error) {
      return `no probes on UDP port ${listenPort}: ${asFailure(error).message}`;
    }
  }

  async close(): Promise<void> {
    this.#socket?.close();
    this.#socket = undefined;
    await this.#nft(["nft", "-f", "-"], REMOVE_PROBE_MUX).catch(() => undefined);
  }

  async #bind(port: number): Promise<void> {
    if (this.#socket?.port === port) return;
    this.#socket?.close();
    this.#socket = undefined;
    const socket = await this.#open(port);
    socket.onReceive = (datagram, from) => {
      const kind = datagramKind(datagram);
      if (kind === "probe" || kind === "stun") this.onReceive?.(datagram, from);
    };
    this.#socket = socket;
  }

  async #rewrite(mux: { listenPort: number; probePort: number }): Promise<void> {
    const there = await this.#exec.run(["nft", "list", "table", "inet", PROBE_MUX_TABLE]);
    if (there.exitCode === 0 && isProbeMux(there.stdout, mux)) return;
    await this.#nft(["nft", "-f", "-"], renderProbeMux(mux));
  }

  async #nft(argv: readonly string[], input: string): Promise<void> {
    const ran = await this.#exec.run(argv, { input });
    if (ran.exitCode !== 0)
      throw new Failure("nft-refused", `${argv.join(" ")} exited ${ran.exitCode}: ${ran.stderr.trim().slice(0, 300)}`);
  }
}
