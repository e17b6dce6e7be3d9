import { cidrContains, type Ip } from "../../kit/ip.js";
import type { Key } from "../../kit/key.js";
import type { Millis } from "../../kit/time.js";
import type { Clock } from "../../sys/clock.js";
import type { Log } from "../../sys/log.js";
import type { NameService } from "../../sys/nameservice.js";
import type { Random } from "../../sys/random.js";
import { type AgentStatus, EXITS_MAX, NEAREST } from "../../wire/agentsocket.js";
import type { MapPeer, NetworkMap } from "../../wire/map.js";
import type { InterfaceState } from "../../wireguard/interface.js";
import { type Choice, isExit } from "../desired.js";
import { Failover } from "./failover.js";
import { askBeyond } from "./questions.js";
import { NO_WISH, type Wish } from "./wish.js";

export type ExitsParts = {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly nameService: NameService;
};

/** One round trip; undefined where there was no answer. */
type Pinger = { ping(peer: Key): Promise<Millis | undefined> };

/** More than WireGuard's own keepalives between two looks: somebody on the other side has answered somebody here. */
const TRAFFIC_BYTES_MIN = 1_024;

/**
 * The exit in use, out of those that are wished for. Where there are several each is asked for a sign of life: its
 * agent by a probe on the way its traffic goes, what is behind it by a look-up, and received bytes count as well.
 */
export class Exits {
  readonly #parts: ExitsParts;
  readonly #received = new Map<Key, number>();
  #wish: Wish = NO_WISH;
  #failover: Failover | undefined;
  #map: NetworkMap | undefined;

  constructor(parts: ExitsParts) {
    this.#parts = parts;
  }

  get wish(): Wish {
    return this.#wish;
  }

  /** What is in force. */
  get choice(): Choice {
    const { exits, dns } = this.#wish;
    const first = exits === NEAREST ? NEAREST : exits[0];
    return { exit: this.#failover?.current ?? first, ...(dns === undefined ? {} : { dns }) };
  }

  want(wish: Wish, map: NetworkMap | undefined): void {
    const isNone = wish.exits.length === 0;
    // How look-ups go may be chosen anew without forgetting who answers.
    if (JSON.stringify(wish.exits) !== JSON.stringify(this.#wish.exits) || isNone)
      this.#failover = isNone
        ? undefined
        : new Failover(wish.exits === NEAREST ? "nearest" : "listed", this.#parts.clock.now(), this.choice.exit);
    this.#wish = wish;
    if (map !== undefined) this.follow(map);
  }

  /** The map has come, or changed. */
  follow(map: NetworkMap): void {
    this.#map = map;
    this.#failover?.follow(
      this.#wished(map).map(({ name }) => name),
      this.#parts.clock.now(),
    );
  }

  /** This machine is somewhere else. */
  moved(): void {
    this.#failover?.moved();
  }

  /** What WireGuard says of its peers. */
  observe(state: InterfaceState): void {
    if (!this.#hasSeveral) return;
    const peers = new Map(this.#wished(this.#map).map((peer) => [peer.publicKey, peer]));
    for (const { publicKey, receivedBytes } of state.peers) {
      const name = peers.get(publicKey)?.name;
      const before = this.#received.get(publicKey) ?? receivedBytes;
      this.#received.set(publicKey, receivedBytes);
      if (name === undefined || receivedBytes <= before) continue;
      this.#failover?.heard(name, this.#parts.clock.now());
      if (receivedBytes - before >= TRAFFIC_BYTES_MIN) this.#failover?.heardBeyond(name, false);
    }
    for (const key of this.#received.keys()) if (!peers.has(key)) this.#received.delete(key);
  }

  /**
   * Asks who is due after every pause, by a ping where it is the agent, and tells when another exit is to be used from now
   * on. It waits for nothing else: a silent exit is left in time however long setting up the machine takes.
   */
  async watch(pinger: Pinger, pause: () => Promise<boolean>, switched: () => void): Promise<void> {
    while (await pause()) if (this.#beat(pinger)) switched();
  }

  /** The exit of a status with what there is to know of the others. */
  describe(exit: AgentStatus["exit"]): Pick<AgentStatus, "exit"> {
    const failover = this.#failover;
    if (exit === undefined) return {};
    if (failover === undefined || !this.#hasSeveral) return { exit };
    const now = this.#parts.clock.now();
    const { last } = failover;
    const returns = failover.returns(now);
    const exits = failover.sights(now);
    // A handshake of two minutes ago proves less than the silence since.
    const isSilent = exits.some(({ name, state }) => name === exit.name && state === "silent");
    return {
      exit: {
        ...exit,
        ...(exit.state === "active" && isSilent ? { state: "waiting" as const } : {}),
        wanted: this.#wish.exits === NEAREST ? NEAREST : [...this.#wish.exits],
        exits,
        ...(last === undefined ? {} : { switched: { from: last.from, why: last.why, agoMs: now - last.at } }),
        ...(returns === undefined ? {} : { returns }),
      },
    };
  }

  /** True when another exit is to be used from now on. */
  #beat(pinger: Pinger): boolean {
    const failover = this.#failover;
    if (failover === undefined || !this.#hasSeveral) return false;
    const { clock, log } = this.#parts;
    const before = failover.current;
    const due = new Set(failover.due(clock.now()));
    for (const peer of this.#wished(this.#map)) if (due.has(peer.name)) this.#ask(failover, peer, pinger);
    const moved = failover.decide(clock.now());
    if (moved !== undefined) log.info("another exit is used", { from: moved.from, to: moved.to, why: moved.why });
    return failover.current !== before;
  }

  /** With a single exit there is nothing to decide. */
  get #hasSeveral(): boolean {
    return this.#wish.exits === NEAREST || this.#wish.exits.length > 1;
  }

  #wished(map: NetworkMap | undefined): MapPeer[] {
    const { exits } = this.#wish;
    const all = (map?.peers ?? []).filter(isExit);
    if (exits === NEAREST) return [...all].sort((a, b) => Number(b.online) - Number(a.online)).slice(0, EXITS_MAX);
    return exits.flatMap((name) => all.find((peer) => peer.name === name) ?? []);
  }

  #ask(failover: Failover, peer: MapPeer, pinger: Pinger): void {
    const { clock } = this.#parts;
    const { name } = peer;
    failover.asked(name, clock.now());
    void pinger.ping(peer.publicKey).then((roundTripMs) => {
      if (roundTripMs !== undefined) failover.heard(name, clock.now(), roundTripMs);
    });
    const resolver = this.#resolverBehind(failover, peer);
    if (resolver === undefined) return;
    failover.askedBeyond(name, clock.now());
    void askBeyond(this.#parts, resolver, this.#map?.self.addresses ?? []).then((isThere) => {
      if (!isThere) return;
      failover.heard(name, clock.now());
      failover.heardBeyond(name, true);
    });
  }

  /** One in the mesh always, any other through the exit in use: nothing else goes through an exit. */
  #resolverBehind(failover: Failover, peer: MapPeer): Ip | undefined {
    if (failover.current === peer.name) return peer.resolvers[0];
    const ranges = this.#map?.ranges ?? [];
    return peer.resolvers.find((ip) => ranges.some((range) => cidrContains(range, ip)));
  }
}
