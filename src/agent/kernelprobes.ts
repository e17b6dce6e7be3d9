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

  send(to: Endpoint, datagram: Uint8Array, whole = false): void {
    this.#socket?.send(to, datagram, whole);
  }

  /** Follows WireGuard's port. What stands in the way comes back in words: a tunnel works without probes. */
  async follow(listenPort: number): Promise<string | undefined> {
    const probePort = probePortOf(listenPort);
    if (this.#socket?.port !== probePort) this.#hangUp();
    let socket = this.#socket;
    try {
      // Without the port there is no table, which would keep whoever has it from what comes in.
      socket ??= await this.#bind(probePort);
      await this.#rewrite({ listenPort, probePort });
      // Not before the table: what STUN is asked from the socket's own port is answered with a mapping that is not
      // WireGuard's, and every peer would be told of it.
      this.#socket = socket;
      return undefined;
    } catch (error) {
      socket?.close();
      this.#socket = undefined;
      return `no probes on UDP port ${listenPort}: ${asFailure(error).message}`;
    }
  }

  async close(): Promise<void> {
    this.#hangUp();
    await this.#nft(["nft", "-f", "-"], REMOVE_PROBE_MUX).catch(() => undefined);
  }

  #hangUp(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  async #bind(port: number): Promise<DatagramSocket> {
    const socket = await this.#open(port);
    socket.onReceive = (datagram, from) => {
      const kind = datagramKind(datagram);
      if (kind === "probe" || kind === "stun") this.onReceive?.(datagram, from);
    };
    return socket;
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
