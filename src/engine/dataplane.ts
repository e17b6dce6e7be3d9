import type { Endpoint } from "../kit/endpoint.js";
import { Failure } from "../kit/failure.js";
import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import { Arena, fixedMemory } from "../sys/arena.js";
import type { Clock } from "../sys/clock.js";
import { DatagramReader, DatagramWriter, READER_ARENA_BYTES, WRITER_ARENA_BYTES } from "../sys/datagrams.js";
import type { Libc } from "../sys/libc.js";
import { POLL_ARENA_BYTES, PollSet } from "../sys/poll.js";
import { type Remote, Remotes } from "../sys/sockaddr.js";
import { openTun, type Tun } from "../sys/tun.js";
import { closeUdpPair, markSocket, openUdpPair, type UdpOptions, type UdpPair } from "../sys/udp.js";
import { WholeDatagrams } from "../sys/wholedatagrams.js";
import { Device, type Effect } from "../wireguard/device.js";
import type { InterfaceState, WantInterface } from "../wireguard/interface.js";
import { TYPE_TRANSPORT } from "../wireguard/messages.js";
import { copyingAead } from "./arenaaead.js";
import { pooledRandom } from "./chance.js";
import { CIPHERS_ARENA_BYTES, type Ciphers, loadCiphers } from "./ciphers.js";
import { INBOUND_ARENA_BYTES, Inbound } from "./inbound.js";
import { JOINER_ARENA_BYTES, Joiner } from "./joiner.js";
import { LONE_ARENA_BYTES, LonePacket } from "./lonepacket.js";
import { RUN_ARENA_BYTES } from "./messagerun.js";
import { missingOf, OFFLOADS, type Offload } from "./offloads.js";
import { OUTBOUND_ARENA_BYTES, Outbound, PIECE_BYTES_MAX } from "./outbound.js";
import { VNET_HEADER_BYTES } from "./vnetheader.js";

/** The longest wait. A process that exits joins this thread first, and cannot ring the bell any more then. */
const WAIT_MAX_MS: Millis = 1_000;
/** A wait of so long is a rest: in a stream packets follow each other faster. */
const REST_MS: Millis = 1;
/** So many turns without a rest are a stream, and no lone packet is prepared for. */
const STREAM_TURNS = 4;
const COPY_BYTES = PIECE_BYTES_MAX + 64;
const ARENA_BYTES =
  READER_ARENA_BYTES +
  2 * WRITER_ARENA_BYTES +
  INBOUND_ARENA_BYTES +
  OUTBOUND_ARENA_BYTES +
  JOINER_ARENA_BYTES +
  CIPHERS_ARENA_BYTES +
  POLL_ARENA_BYTES +
  LONE_ARENA_BYTES +
  COPY_BYTES +
  RUN_ARENA_BYTES +
  4_096;
/** Of handshake messages, as the kernel's WireGuard sets it: AF41 (RFC 2597), so that a full link does not starve them. */
const HANDSHAKE_TRAFFIC_CLASS = 0x88;

/** Places among the descriptors; acceleratorlone.h knows that of the TUN device. */
const CONTROL = 0;
const TUN = 1;
const IP4 = 2;
const IP6 = 3;

const placeOf = (remote: Remote): number => (remote.family === 4 ? IP4 : IP6);

export type DataPlaneParts = {
  readonly libc: Libc;
  readonly clock: Clock;
  /** Something to read here ends a turn's wait. */
  readonly controlFd: number;
  /** To do without, as if the machine had none of them. */
  readonly without: ReadonlySet<Offload>;
  onProbe(datagram: Uint8Array, from: Endpoint): void;
};

type Open = { readonly want: WantInterface; readonly tun: Tun; readonly udp: UdpPair };

/**
 * One WireGuard interface in user space: a TUN device, a UDP port, and between them the protocol, which decides
 * while this moves bytes. Everything happens in turn(): wait, receive, read, let time pass, send what was collected.
 */
export class DataPlane {
  readonly #parts: DataPlaneParts;
  readonly #arena: Arena;
  /** For packets of the protocol's own. */
  readonly #copy: number;
  readonly #poll: PollSet;
  readonly #ciphers: Ciphers;
  readonly #device: Device;
  readonly #remotes = new Remotes();
  readonly #writer4: DatagramWriter;
  readonly #writer6: DatagramWriter;
  readonly #whole: WholeDatagrams;
  readonly #joiner: Joiner;
  readonly #inbound: Inbound;
  readonly #outbound: Outbound;
  /** Where there is an accelerator. */
  readonly #lone: LonePacket | undefined;
  readonly #missing = new Set<Offload>();
  readonly #warnings = new Set<string>();
  #open: Open | undefined;
  /** Turns since the last rest. */
  #restless = 0;

  constructor(parts: DataPlaneParts) {
    const { libc, clock, without } = parts;
    this.#parts = parts;
    const memory = fixedMemory(ARENA_BYTES);
    const arena = new Arena(libc, memory);
    this.#arena = arena;
    this.#copy = arena.take(COPY_BYTES);
    this.#ciphers = loadCiphers(libc, arena, memory, without);
    const { aead, sum, accelerator } = this.#ciphers;
    this.#device = new Device({
      random: pooledRandom(),
      wallMs: () => clock.wall(),
      aead: copyingAead(aead, arena, this.#copy),
    });
    const onRefused = (): void => {
      this.#missing.add("cuts");
    };
    this.#writer4 = new DatagramWriter(libc, arena, onRefused);
    this.#writer6 = new DatagramWriter(libc, arena, onRefused);
    this.#whole = new WholeDatagrams(libc);
    this.#joiner = new Joiner(libc, arena, sum);
    const device = this.#device;
    const run = (effects: readonly Effect[]): void => this.#run(effects);
    const reader = new DatagramReader(libc, arena, this.#remotes);
    const writerFor = (remote: Remote): DatagramWriter => this.#writerFor(remote);
    this.#inbound = new Inbound({
      arena,
      reader,
      aead,
      device,
      joiner: this.#joiner,
      run,
      onProbe: (datagram, { address, port }) => parts.onProbe(datagram.slice(), { address, port }),
    });
    this.#outbound = new Outbound({
      libc,
      arena,
      sum,
      aead,
      device,
      remotes: this.#remotes,
      writerFor,
      run,
      flush: () => this.#flush(),
    });
    const [inbound, { piece }] = [this.#inbound, this.#outbound];
    this.#lone =
      accelerator &&
      new LonePacket({ arena, accelerator, device, inbound, reader: reader.first, piece, writerFor, run });
    this.#poll = new PollSet({ ...libc, ...(this.#lone && { poll: this.#lone.poll }) }, arena);
    this.#watch();
  }

  set(want: WantInterface): void {
    const before = this.#open;
    if (before === undefined) this.#open = this.#openAll(want);
    else this.#open = { want, tun: this.#retune(before, want), udp: this.#rebind(before, want) };
    this.#equip(this.#open);
    this.#watch();
    this.#run(this.#device.configure(want, this.#parts.clock.now()));
    this.#flush();
  }

  point(publicKey: Key, endpoint: Endpoint): void {
    this.#run(this.#device.point(publicKey, endpoint, this.#parts.clock.now()));
    this.#flush();
  }

  state(): InterfaceState {
    const open = this.#open;
    if (open === undefined) throw new Failure("interface-missing", "the interface was never set");
    return {
      name: open.want.name,
      listenPort: open.udp.port,
      peers: this.#device.peers(this.#parts.clock.now()).map(({ endpoint, ...peer }) => ({
        ...peer,
        ...(endpoint === undefined ? {} : { endpoint: { address: endpoint.address, port: endpoint.port } }),
      })),
      warnings: [...this.#warnings, ...[...this.#missing].map((offload) => OFFLOADS[offload])],
      unsent: { looped: this.#outbound.looped, refused: this.#writer4.refused + this.#writer6.refused },
    };
  }

  /** Sends a datagram that is none of WireGuard's from its port; a `whole` one in one piece or not at all. */
  sendProbe(to: Endpoint, datagram: Uint8Array, whole: boolean): void {
    const remote = this.#remotes.of(to);
    const writer = this.#writerFor(remote);
    if (whole) {
      if (writer.fd !== undefined) this.#whole.send(writer.fd, to, datagram);
      return;
    }
    writer.add(remote, datagram);
    writer.flush();
  }

  /** Waits until something is to be done, and does it; true when the control descriptor has something to read. */
  turn(): boolean {
    const { clock } = this.#parts;
    const deadline = this.#device.deadline;
    const before = clock.now();
    const wait = deadline === undefined ? WAIT_MAX_MS : Math.ceil(deadline - before);
    const lone = this.#lone;
    if (this.#restless < STREAM_TURNS) lone?.arm(before, this.#outbound.mtu, placeOf);
    else lone?.disarm();
    this.#poll.wait(Math.min(Math.max(wait, 0), WAIT_MAX_MS));
    const now = clock.now();
    const rested = now - before >= REST_MS;
    this.#restless = rested ? 0 : this.#restless + 1;
    const open = this.#open;
    if (open !== undefined) {
      if (this.#poll.broken(TUN))
        throw new Failure("tun-gone", `the interface ${open.want.name} was removed by somebody else`);
      const { ip4, ip6 } = open.udp;
      const by4 = ip4 !== undefined && (this.#poll.ready(IP4) || this.#poll.broken(IP4));
      const by6 = ip6 !== undefined && (this.#poll.ready(IP6) || this.#poll.broken(IP6));
      const done = lone?.account(now) === true;
      if (by4 && !done) this.#inbound.receive(ip4.fd, now, lone?.received);
      if (by6 && !done) this.#inbound.receive(ip6.fd, now, lone?.received);
      // This machine's own answer to what came in is there as soon as it was written.
      if (lone?.left || (!done && (this.#poll.ready(TUN) || (rested && (by4 || by6)))))
        this.#outbound.read(open.tun.fd, now, rested, lone?.left);
      this.#run(this.#device.tick(now));
      this.#flush();
      this.#ciphers.aead.forget();
    }
    return this.#poll.ready(CONTROL);
  }

  /** The TUN device goes with its descriptor. */
  close(): void {
    const open = this.#open;
    this.#open = undefined;
    this.#lone?.disarm();
    this.#watch();
    if (open === undefined) return;
    this.#parts.libc.close(open.tun.fd);
    closeUdpPair(this.#parts.libc, open.udp);
  }

  #run(effects: readonly Effect[]): void {
    for (const effect of effects)
      if (effect.kind === "deliver") this.#deliver(effect.packet);
      else {
        const remote = this.#remotes.of(effect.to);
        const trafficClass = effect.datagram[0] === TYPE_TRANSPORT ? 0 : HANDSHAKE_TRAFFIC_CLASS;
        this.#writerFor(remote).add(remote, effect.datagram, trafficClass);
      }
  }

  #deliver(packet: Uint8Array): void {
    const at = this.#copy + VNET_HEADER_BYTES;
    this.#arena.bytes.set(packet, at);
    this.#joiner.add(at, packet.length);
    this.#joiner.flush();
  }

  #writerFor(remote: Remote): DatagramWriter {
    return remote.family === 4 ? this.#writer4 : this.#writer6;
  }

  #flush(): void {
    this.#writer4.flush();
    this.#writer6.flush();
  }

  #openAll(want: WantInterface): Open {
    const { libc } = this.#parts;
    const tun = this.#openTun(want.name);
    try {
      return { want, tun, udp: openUdpPair(libc, want.listenPort, this.#udpOptions(want)) };
    } catch (error) {
      libc.close(tun.fd);
      throw error;
    }
  }

  #retune(before: Open, want: WantInterface): Tun {
    if (before.want.name === want.name) return before.tun;
    const tun = this.#openTun(want.name);
    this.#parts.libc.close(before.tun.fd);
    return tun;
  }

  #openTun(name: string): Tun {
    const { libc, without } = this.#parts;
    return openTun(libc, name, { tso: !without.has("tso"), uso: !without.has("uso") });
  }

  /** A wanted port of 0 is content with the one there is. */
  #rebind(before: Open, want: WantInterface): UdpPair {
    const { libc } = this.#parts;
    const options = this.#udpOptions(want);
    if (want.listenPort === 0 || want.listenPort === before.udp.port) {
      if (want.fwmark !== before.want.fwmark)
        for (const socket of [before.udp.ip4, before.udp.ip6])
          if (socket !== undefined) markSocket(libc, socket.fd, options);
      return before.udp;
    }
    const udp = openUdpPair(libc, want.listenPort, options);
    closeUdpPair(libc, before.udp);
    return udp;
  }

  /** Tells everyone what there is to work with. */
  #equip({ want, tun, udp }: Open): void {
    const { without } = this.#parts;
    for (const offload of [...this.#ciphers.missing, ...missingOf(tun, udp), ...without]) this.#missing.add(offload);
    const has = (offload: Offload): boolean => !this.#missing.has(offload);
    this.#outbound.mtu = want.mtu;
    this.#joiner.fd = tun.fd;
    this.#joiner.tso = has("tso");
    this.#joiner.uso = has("uso");
    this.#writer4.fd = udp.ip4?.fd;
    this.#writer6.fd = udp.ip6?.fd;
    for (const writer of [this.#writer4, this.#writer6]) writer.segments = has("cuts");
  }

  #udpOptions(want: WantInterface): UdpOptions {
    const join = !this.#parts.without.has("joins");
    return { mark: want.fwmark, join, onWarning: (text) => this.#warnings.add(text) };
  }

  #watch(): void {
    const open = this.#open;
    this.#poll.watch([this.#parts.controlFd, open?.tun.fd, open?.udp.ip4?.fd, open?.udp.ip6?.fd]);
  }
}
