import type { Endpoint } from "../kit/endpoint.js";
import { Failure } from "../kit/failure.js";
import { familyOf } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import { Arena } from "../sys/arena.js";
import type { Clock } from "../sys/clock.js";
import { DATAGRAMS_ARENA_BYTES, DatagramReader, DatagramWriter, RECEIVE_BATCH } from "../sys/datagrams.js";
import type { Libc } from "../sys/libc.js";
import { loadLibcrypto } from "../sys/libcrypto.js";
import { POLL_ARENA_BYTES, PollSet } from "../sys/poll.js";
import { Sockaddrs } from "../sys/sockaddr.js";
import { openTun } from "../sys/tun.js";
import { closeUdpPair, markSocket, openUdpPair, type UdpPair } from "../sys/udp.js";
import { Device, type Effect } from "../wireguard/device.js";
import type { InterfaceState, WantInterface } from "../wireguard/interface.js";
import { pooledRandom } from "./chance.js";

/** Rounds of RECEIVE_BATCH datagrams per turn: no direction and no control message waits long for another. */
const RECEIVES_MAX = 4;
/** Packets read from the TUN device per turn. */
const READS_MAX = RECEIVES_MAX * RECEIVE_BATCH;
/** The longest wait. A process that exits joins this thread first, and cannot ring the bell any more then. */
const WAIT_MAX_MS: Millis = 1_000;
const PACKET_BYTES_MAX = 65_536;

const CONTROL = 0;
const TUN = 1;
const IP4 = 2;
const IP6 = 3;

type Open = { readonly want: WantInterface; readonly tunFd: number; readonly udp: UdpPair };

/**
 * One WireGuard interface in user space: a TUN device, a UDP port, and between them the protocol, which decides
 * while this moves bytes. Everything happens in turn(): wait, receive, read, let time pass, send what was collected.
 */
export class DataPlane {
  readonly #libc: Libc;
  readonly #clock: Clock;
  readonly #controlFd: number;
  readonly #arena: Arena;
  readonly #packet: number;
  readonly #poll: PollSet;
  readonly #reader: DatagramReader;
  readonly #writer4: DatagramWriter;
  readonly #writer6: DatagramWriter;
  readonly #device: Device;
  readonly #warnings = new Set<string>();
  #open: Open | undefined;

  constructor(libc: Libc, clock: Clock, controlFd: number) {
    this.#libc = libc;
    this.#clock = clock;
    this.#controlFd = controlFd;
    this.#arena = new Arena(libc, 2 * DATAGRAMS_ARENA_BYTES + PACKET_BYTES_MAX + POLL_ARENA_BYTES);
    this.#packet = this.#arena.take(PACKET_BYTES_MAX);
    this.#poll = new PollSet(libc, this.#arena);
    const sockaddrs = new Sockaddrs();
    this.#reader = new DatagramReader(libc, this.#arena, sockaddrs);
    this.#writer4 = new DatagramWriter(libc, this.#arena, sockaddrs);
    this.#writer6 = new DatagramWriter(libc, this.#arena, sockaddrs);
    const aead = loadLibcrypto(libc);
    if (aead === undefined) this.#warnings.add("OpenSSL's libcrypto.so.3 is missing: encryption is four times slower");
    this.#device = new Device({
      random: pooledRandom(),
      wallMs: () => clock.wall(),
      ...(aead === undefined ? {} : { aead }),
    });
    this.#watch();
  }

  set(want: WantInterface): void {
    const before = this.#open;
    if (before === undefined) this.#open = this.#openAll(want);
    else this.#open = { want, tunFd: this.#retune(before, want), udp: this.#rebind(before, want) };
    this.#watch();
    this.#run(this.#device.configure(want, this.#clock.now()));
    this.#flush();
  }

  state(): InterfaceState {
    const open = this.#open;
    if (open === undefined) throw new Failure("interface-missing", "the interface was never set");
    return {
      name: open.want.name,
      listenPort: open.udp.port,
      peers: this.#device.peers(this.#clock.now()),
      warnings: [...this.#warnings],
    };
  }

  /** Waits until something is to be done, and does it; true when the control descriptor has something to read. */
  turn(): boolean {
    const deadline = this.#device.deadline;
    const wait = deadline === undefined ? WAIT_MAX_MS : Math.ceil(deadline - this.#clock.now());
    this.#poll.wait(Math.min(Math.max(wait, 0), WAIT_MAX_MS));
    const open = this.#open;
    if (open !== undefined) {
      if (this.#poll.broken(TUN))
        throw new Failure("tun-gone", `the interface ${open.want.name} was removed by somebody else`);
      const now = this.#clock.now();
      if (this.#poll.ready(IP4) || this.#poll.broken(IP4)) this.#receive(open.udp.ip4?.fd, now);
      if (this.#poll.ready(IP6) || this.#poll.broken(IP6)) this.#receive(open.udp.ip6?.fd, now);
      if (this.#poll.ready(TUN)) this.#read(open.tunFd, now);
      this.#run(this.#device.tick(this.#clock.now()));
      this.#flush();
    }
    return this.#poll.ready(CONTROL);
  }

  /** The TUN device goes with its descriptor. */
  close(): void {
    const open = this.#open;
    this.#open = undefined;
    this.#watch();
    if (open === undefined) return;
    this.#libc.close(open.tunFd);
    closeUdpPair(this.#libc, open.udp);
  }

  #receive(fd: number | undefined, now: Millis): void {
    if (fd === undefined) return;
    for (let round = 0; round < RECEIVES_MAX; round++) {
      const count = this.#reader.receive(fd);
      for (let i = 0; i < count; i++)
        this.#run(this.#device.receive(this.#reader.datagram(i), this.#reader.from(i), now));
      if (count < RECEIVE_BATCH) return;
    }
  }

  #read(tunFd: number, now: Millis): void {
    const { bytes, base } = this.#arena;
    for (let i = 0; i < READS_MAX; i++) {
      const length = this.#libc.read(tunFd, base + this.#packet, PACKET_BYTES_MAX);
      if (length <= 0) return;
      this.#run(this.#device.send(bytes.subarray(this.#packet, this.#packet + length), now));
    }
  }

  #run(effects: readonly Effect[]): void {
    for (const effect of effects)
      if (effect.kind === "send") this.#send(effect.to, effect.datagram);
      else this.#deliver(effect.packet);
  }

  #send(to: Endpoint, datagram: Uint8Array): void {
    const udp = this.#open?.udp;
    const four = familyOf(to.address) === 4;
    const fd = four ? udp?.ip4?.fd : udp?.ip6?.fd;
    if (fd !== undefined) (four ? this.#writer4 : this.#writer6).add(fd, to, datagram);
  }

  /** A full queue, or an interface that is down, loses the packet, as any network does. */
  #deliver(packet: Uint8Array): void {
    if (this.#open === undefined) return;
    this.#arena.bytes.set(packet, this.#packet);
    this.#libc.write(this.#open.tunFd, this.#arena.base + this.#packet, packet.length);
  }

  #flush(): void {
    const udp = this.#open?.udp;
    if (udp?.ip4 !== undefined) this.#writer4.flush(udp.ip4.fd);
    if (udp?.ip6 !== undefined) this.#writer6.flush(udp.ip6.fd);
  }

  #openAll(want: WantInterface): Open {
    const tunFd = openTun(this.#libc, want.name);
    try {
      return { want, tunFd, udp: openUdpPair(this.#libc, want.listenPort, this.#udpOptions(want)) };
    } catch (error) {
      this.#libc.close(tunFd);
      throw error;
    }
  }

  #retune(before: Open, want: WantInterface): number {
    if (before.want.name === want.name) return before.tunFd;
    const tunFd = openTun(this.#libc, want.name);
    this.#libc.close(before.tunFd);
    return tunFd;
  }

  /** A wanted port of 0 is content with the one there is. */
  #rebind(before: Open, want: WantInterface): UdpPair {
    const options = this.#udpOptions(want);
    if (want.listenPort === 0 || want.listenPort === before.udp.port) {
      if (want.fwmark !== before.want.fwmark)
        for (const socket of [before.udp.ip4, before.udp.ip6])
          if (socket !== undefined) markSocket(this.#libc, socket.fd, options);
      return before.udp;
    }
    const udp = openUdpPair(this.#libc, want.listenPort, options);
    closeUdpPair(this.#libc, before.udp);
    return udp;
  }

  #udpOptions(want: WantInterface): { mark: number; onWarning: (text: string) => void } {
    return { mark: want.fwmark, onWarning: (text) => this.#warnings.add(text) };
  }

  #watch(): void {
    const open = this.#open;
    this.#poll.watch([this.#controlFd, open?.tunFd, open?.udp.ip4?.fd, open?.udp.ip6?.fd]);
  }
}
