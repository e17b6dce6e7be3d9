import { lookup } from "node:dns/promises";
import { decode, encode } from "dns-packet";
import { ControlClient } from "../agent/control.js";
import { keyPairOf } from "../kit/crypto.js";
import { Failure } from "../kit/failure.js";
import { familyOf, type Ip, parseCidr, tryIp } from "../kit/ip.js";
import { KEY_BYTES, keyOf } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { ProbedExit } from "../provision/parts.js";
import { WIREGUARD_PORT } from "../provision/payload.js";
import type { Clock } from "../sys/clock.js";
import { openDatagramSocket } from "../sys/dgram.js";
import type { Random } from "../sys/random.js";
import { dialWebSocket } from "../sys/websocket.js";
import { version } from "../version.js";
import { decodeJoinKey } from "../wire/joinkey.js";
import type { MapPeer, NetworkMap } from "../wire/map.js";
import { Device, type Effect } from "../wireguard/device.js";
import {
  connectionRequest,
  datagram,
  datagramIn,
  echoRequest,
  isConnectionAnswer,
  isEchoReply,
  type Way,
} from "./upgradepackets.js";

/**
 * Tries an exit node out as a device of one's own would use it: joins the network for some seconds, speaks WireGuard
 * to the container from this process, and goes through it into the Internet. Leaves no device behind.
 */
type World = { readonly clock: Clock; readonly random: Random; readonly signal: AbortSignal };

const JOIN_WAIT_MS: Millis = 8_000;
/** The exit node hears of the new device about when we do: the first tries may be too early. */
const TRY_MS: Millis = 1_000;
const TRIES_MAX = 4;
const KEY_LIFETIME_MS: Millis = 60_000;
const PORT = 40_000;

/** What does not work, in words; undefined when all does. */
export async function tryTunnel(world: World, exit: ProbedExit): Promise<string | undefined> {
  const name = `check-${exit.name}`.slice(0, 63).replace(/-$/, "");
  const forget = async (): Promise<void> => {
    for (const device of await exit.admin.devices()) if (device.name === name) await exit.admin.forget(device.id);
  };
  const stop = new AbortController();
  const socket = await openDatagramSocket(0);
  // One that a killed run left.
  await forget();
  try {
    const privateKey = world.random(KEY_BYTES);
    const map = await join({ ...world, signal: AbortSignal.any([world.signal, stop.signal]) }, exit, name, privateKey);
    if (map.lock !== undefined && map.lock.records.length > 0)
      return "the device lock keeps out the device that would try it, which nobody has signed";
    const peer = map.peers.find((one) => one.name === exit.name);
    const from = map.self.addresses.find((ip) => familyOf(ip) === 4);
    const to = peer?.addresses.find((ip) => familyOf(ip) === 4);
    if (peer === undefined || from === undefined || to === undefined)
      return `the network map of a new device does not have "${exit.name}"`;
    const tunnel = new Tunnel(world, socket, privateKey, { peer, address: exit.address });
    const pinged = await tunnel.ask(echoRequest({ from, to }, PORT), (packet) =>
      isEchoReply(packet, { from, to }, PORT),
    );
    if (pinged !== true) return `no answer through the tunnel from ${to}, by ${exit.address} udp/${WIREGUARD_PORT}`;
    return await intoTheInternet(tunnel, from, peer, exit.whoami);
  } catch (error) {
    if (error instanceof Failure && !world.signal.aborted) return error.message;
    throw error;
  } finally {
    stop.abort();
    socket.close();
    await forget();
  }
}

/** Comes into the network as a device; resolves with its map. */
async function join(world: World, exit: ProbedExit, name: string, privateKey: Uint8Array): Promise<NetworkMap> {
  const { joinKey } = await exit.admin.createKey({ role: "device", name, lifetimeMs: KEY_LIFETIME_MS });
  const { coordinatorKey, urls, secret } = decodeJoinKey(joinKey);
  const beside = (url: string): boolean => new URL(url).hostname.replace(/^\[|\]$/g, "") === exit.address;
  let reason = "no answer";
  return await new Promise<NetworkMap>((resolve, reject) => {
    const fail = (): void =>
      reject(new Failure("join-refused", `the coordinator does not let a new device in: ${reason}`));
    const client = new ControlClient(
      { dial: dialWebSocket, clock: world.clock, random: world.random },
      {
        urls: [...urls.filter(beside), ...urls.filter((url) => !beside(url))],
        coordinatorKey,
        machineKey: keyPairOf(world.random(KEY_BYTES)),
        hello: () => ({
          agentVersion: version,
          name,
          publicKey: keyOf(keyPairOf(privateKey).publicKey),
          joinSecret: secret,
          report: { endpoints: [], routes: [], resolvers: [] },
        }),
      },
      {
        onMap: resolve,
        onRefused: ({ message }) => {
          reason = message;
          fail();
        },
        onState: (state) => {
          if (!state.connected) reason = state.reason;
        },
      },
    );
    client.run(world.signal).then(fail, fail);
    world.clock.sleep(JOIN_WAIT_MS, world.signal).then(fail, fail);
  });
}

/** An address by name from the exit's resolver, and an answer from a whoami service, which is asked for nothing more. */
async function intoTheInternet(
  tunnel: Tunnel,
  from: Ip,
  peer: MapPeer,
  whoami: readonly string[],
): Promise<string | undefined> {
  const asked = whoami.filter((text) => URL.canParse(text)).map((text) => new URL(text));
  if (asked.length === 0) return undefined;
  const troubles: string[] = [];
  for (const url of asked) {
    const to = await addressOf(tunnel, from, peer, url.hostname);
    if (to === undefined) {
      troubles.push(`nobody knows the address of ${url.hostname}`);
      continue;
    }
    const way: Way = { from, to };
    const ports = { from: PORT, to: Number(url.port) || (url.protocol === "https:" ? 443 : 80) };
    const answers = (packet: Uint8Array): boolean => isConnectionAnswer(packet, way, ports);
    if ((await tunnel.ask(connectionRequest(way, ports, 1), answers)) === true) return undefined;
    troubles.push(`no answer from ${url.hostname} (${to})`);
  }
  return `through the tunnel: ${troubles.join("; ")}`;
}

async function addressOf(tunnel: Tunnel, from: Ip, { resolvers }: MapPeer, name: string): Promise<Ip | undefined> {
  const literal = tryIp(name);
  if (literal !== undefined) return familyOf(literal) === 4 ? literal : undefined;
  for (const to of resolvers.filter((ip) => familyOf(ip) === 4)) {
    const question = encode({ type: "query", id: PORT, flags: 0x0100, questions: [{ type: "A", name }] });
    const ports = { from: PORT, to: 53 };
    const back = { from: ports.to, to: ports.from };
    const answer = await tunnel.ask(datagram({ from, to }, ports, question), (packet) =>
      datagramIn(packet, { from: to, to: from }, back),
    );
    const found = answer === undefined ? undefined : firstAddress(answer);
    if (found !== undefined) return found;
  }
  return lookup(name, { family: 4 }).then(
    ({ address }) => tryIp(address),
    () => undefined,
  );
}

function firstAddress(answer: Uint8Array): Ip | undefined {
  try {
    for (const record of decode(Buffer.from(answer)).answers ?? []) if (record.type === "A") return tryIp(record.data);
  } catch {
    // Not DNS: as good as none.
  }
  return undefined;
}

/** WireGuard between a socket and this process, for one question at a time. */
class Tunnel {
  readonly #world: World;
  readonly #socket: Awaited<ReturnType<typeof openDatagramSocket>>;
  readonly #fresh: () => Device;
  #device: Device;
  #onPacket: (packet: Uint8Array) => void = () => undefined;

  constructor(
    world: World,
    socket: Awaited<ReturnType<typeof openDatagramSocket>>,
    privateKey: Uint8Array,
    { peer, address }: { readonly peer: MapPeer; readonly address: Ip },
  ) {
    this.#world = world;
    this.#socket = socket;
    this.#fresh = () => {
      const device = new Device({ random: world.random, wallMs: () => world.clock.wall() });
      const want = {
        publicKey: peer.publicKey,
        endpoint: { address, port: WIREGUARD_PORT },
        allowedIps: [parseCidr("0.0.0.0/0")],
        persistentKeepaliveSeconds: 0,
      };
      device.configure({ privateKey: keyOf(privateKey), peers: [want] }, world.clock.now());
      return device;
    };
    this.#device = this.#fresh();
    socket.onReceive = (bytes, from) => this.#carryOut(this.#device.receive(bytes, from, world.clock.now()));
  }

  /** Sends until something comes back that `match` knows; a fresh handshake each time there was none. */
  async ask<T>(packet: Uint8Array, match: (answer: Uint8Array) => T | undefined | false): Promise<T | undefined> {
    const { clock, signal } = this.#world;
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const over = new AbortController();
      let found: T | undefined;
      this.#onPacket = (answer) => {
        const matched = match(answer);
        if (matched === undefined || matched === false) return;
        found = matched;
        over.abort();
      };
      if (!this.#device.peers(clock.now()).some((one) => one.lastHandshakeAgeMs !== undefined))
        this.#device = this.#fresh();
      this.#carryOut(this.#device.send(packet, clock.now()));
      await clock.sleep(TRY_MS, AbortSignal.any([signal, over.signal])).catch(() => undefined);
      signal.throwIfAborted();
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #carryOut(effects: readonly Effect[]): void {
    for (const effect of effects)
      if (effect.kind === "send") this.#socket.send(effect.to, effect.datagram);
      else this.#onPacket(effect.packet);
  }
}
