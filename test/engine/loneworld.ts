import assert from "node:assert/strict";
import { Worker } from "node:worker_threads";
import { DataPlane } from "../../src/engine/dataplane.js";
import type { Offload } from "../../src/engine/offloads.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { ipBytes, parseCidr, parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import type { Millis } from "../../src/kit/time.js";
import { Arena } from "../../src/sys/arena.js";
import { systemClock } from "../../src/sys/clock.js";
import { type Libc, loadLibc } from "../../src/sys/libc.js";
import { Bell } from "../../src/sys/poll.js";
import { systemRandom } from "../../src/sys/random.js";
import { sockaddrOf } from "../../src/sys/sockaddr.js";
import { Device, type Effect } from "../../src/wireguard/device.js";
import type { PeerState } from "../../src/wireguard/interface.js";
import { TRANSPORT_BYTES_MIN, TRANSPORT_HEADER_BYTES, writeTransportHeader } from "../../src/wireguard/messages.js";
import { nodeAead } from "../../src/wireguard/transportaead.js";
import type { Late, LateSenderData } from "./latesender.js";

const AF_UNIX = 1;
const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const BYTES_MAX = 70_000;

export const INSIDE = { ours: "100.64.7.1", theirs: "100.64.7.2", theirs6: "fd7e:7::2", ours6: "fd7e:7::1" } as const;

const [US, THEM] = [keyPairOf(new Uint8Array(32).fill(0x71)), keyPairOf(new Uint8Array(32).fill(0x72))];

/** Calls of the data plane that move packets. */
const MOVES = ["read", "write", "writev", "recvmmsg", "sendmmsg"] as const;

/**
 * A DataPlane in this thread, with a pair of connected sockets for its TUN device, and the protocol's core as its peer
 * on loopback. Whatever comes to it comes after a rest.
 */
export class LoneWorld {
  readonly plane: DataPlane;
  readonly them: Device;
  /** The peer's sockets: it may roam from one to the other. */
  readonly sockets: readonly [number, number];
  /** What the data plane called since it was last emptied; what the accelerator calls is not seen here. */
  readonly calls: string[] = [];
  /** Added to the clock of both. */
  ahead: Millis = 0;
  readonly #libc: Libc;
  readonly #scratch: Arena;
  readonly #bell: Bell;
  readonly #sender: Worker;
  readonly #machine: number;
  readonly #port: number;

  constructor(without: readonly Offload[]) {
    const libc = loadLibc();
    this.#libc = libc;
    this.#scratch = new Arena(libc, BYTES_MAX);
    this.#bell = new Bell(libc, new Arena(libc, 16));
    const pair = libc.koffi.load("libc.so.6").func("socketpair", "int", ["int", "int", "int", "uintptr_t"]);
    assert.equal(pair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, this.#scratch.base), 0);
    const tun = this.#scratch.view.getInt32(0, true);
    this.#machine = this.#scratch.view.getInt32(4, true);
    const counted = Object.fromEntries(
      MOVES.map((name) => [
        name,
        (...args: number[]) => {
          this.calls.push(name);
          return (libc[name] as (...args: number[]) => number)(...args);
        },
      ]),
    );
    this.plane = new DataPlane({
      libc: { ...libc, ...counted, open: () => tun, ioctl: () => 0 },
      clock: { ...systemClock, now: () => this.now },
      controlFd: this.#bell.fd,
      without: new Set(without),
      onProbe: () => {},
    });
    this.set();
    this.#port = this.plane.state().listenPort;
    this.sockets = [this.#socket(), this.#socket()];
    this.them = new Device({ random: systemRandom, wallMs: () => Date.now() });
    this.them.configure(
      {
        privateKey: keyOf(THEM.privateKey),
        mtu: 1420,
        peers: [
          {
            publicKey: keyOf(US.publicKey),
            endpoint: parseEndpoint(`127.0.0.1:${this.#port}`),
            allowedIps: ["0.0.0.0/0", "::/0"].map((cidr) => parseCidr(cidr)),
            persistentKeepaliveSeconds: 0,
          },
        ],
      },
      this.now,
    );
    const data: LateSenderData & { purpose: string } = {
      purpose: "late sender",
      bellFd: this.#bell.fd,
      sleeper: process.pid,
    };
    this.#sender = new Worker(new URL("./latesender.js", import.meta.url), { workerData: data });
  }

  get now(): Millis {
    return systemClock.now() + this.ahead;
  }

  set(allowedIps: readonly string[] = [`${INSIDE.theirs}/32`, `${INSIDE.theirs6}/128`]): void {
    this.plane.set({
      name: "exnlone",
      privateKey: keyOf(US.privateKey),
      listenPort: 0,
      mtu: 1420,
      fwmark: 0,
      peers: [
        {
          publicKey: keyOf(THEM.publicKey),
          allowedIps: allowedIps.map((cidr) => parseCidr(cidr)),
          persistentKeepaliveSeconds: 0,
        },
      ],
    });
  }

  /** What the peer sends for a packet of its own; opens the session where there is none. */
  sealed(packet: Uint8Array): Uint8Array {
    const before = this.them.send(packet, this.now);
    if (datagramsOf(before)[0]?.[0] !== 1) return only(datagramsOf(before));
    this.arrives(only(datagramsOf(before)));
    return only(datagramsOf(this.them.receive(only(this.sent()), parseEndpoint(`127.0.0.1:${this.#port}`), this.now)));
  }

  /** Whatever bytes as a message of the session, which no honest peer may send. */
  sealedAsIs(plaintext: Uint8Array): Uint8Array {
    const keypair = this.them.route(ipBytes(parseIp(INSIDE.ours)), 0, 4)?.outlet(this.now);
    assert.ok(keypair);
    const datagram = new Uint8Array(TRANSPORT_BYTES_MIN + plaintext.length);
    writeTransportHeader(datagram, keypair.remoteIndex, keypair.counterHigh, keypair.counterLow);
    nodeAead.seal(keypair.sendKey, keypair.counterLow, plaintext, datagram, TRANSPORT_HEADER_BYTES);
    keypair.advance();
    return datagram;
  }

  /** A datagram reaches the data plane after a rest, from one of the peer's sockets. */
  arrives(datagram: Uint8Array, socket = this.sockets[0]): void {
    this.#late({ fd: socket, bytes: datagram, to: sockaddrOf(4, this.#port, ipBytes(parseIp("127.0.0.1"))) });
  }

  /** The machine hands the TUN device a packet after a rest, with a header of the kernel's before it. */
  leaves(packet: Uint8Array, header = new Uint8Array(10)): void {
    this.#late({ fd: this.#machine, bytes: Uint8Array.of(...header, ...packet) });
  }

  /** What the TUN device was written, header and all. */
  written(): Uint8Array[] {
    return this.#drain(this.#machine);
  }

  /** What came to one of the peer's sockets. */
  sent(socket = this.sockets[0]): Uint8Array[] {
    return this.#drain(socket);
  }

  /** The packets in what came to the peer. */
  opened(datagrams: readonly Uint8Array[]): Uint8Array[] {
    const from = parseEndpoint(`127.0.0.1:${this.#port}`);
    return datagrams.flatMap((datagram) =>
      this.them
        .receive(datagram, from, this.now)
        .flatMap((effect) => (effect.kind === "deliver" ? [effect.packet] : [])),
    );
  }

  get peer(): PeerState {
    const [peer] = this.plane.state().peers;
    assert.ok(peer);
    return peer;
  }

  async close(): Promise<void> {
    await this.#sender.terminate();
    this.plane.close();
    for (const fd of [...this.sockets, this.#machine]) this.#libc.close(fd);
    this.#bell.close();
  }

  #late(late: Late): void {
    this.#sender.postMessage(late);
    this.calls.length = 0;
    while (!this.plane.turn());
    this.#bell.hush();
  }

  #socket(): number {
    const fd = this.#libc.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    const address = sockaddrOf(4, 0, ipBytes(parseIp("127.0.0.1")));
    this.#scratch.bytes.set(address);
    assert.equal(this.#libc.bind(fd, this.#scratch.base, address.length), 0);
    return fd;
  }

  #drain(fd: number): Uint8Array[] {
    const found: Uint8Array[] = [];
    for (;;) {
      const length = this.#libc.read(fd, this.#scratch.base, BYTES_MAX);
      if (length < 0) return found;
      found.push(this.#scratch.bytes.slice(0, length));
    }
  }
}

const datagramsOf = (effects: readonly Effect[]): Uint8Array[] =>
  effects.flatMap((effect) => (effect.kind === "send" ? [effect.datagram] : []));

function only<T>(list: readonly T[]): T {
  const [one] = list;
  assert.ok(one !== undefined && list.length === 1, `${list.length} in place of one`);
  return one;
}
