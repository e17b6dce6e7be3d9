import { concat, toHex } from "../kit/bytes.js";
import type { KeyPair } from "../kit/crypto.js";
import { PROBE_MAGIC } from "../kit/datagramkind.js";
import type { Key } from "../kit/key.js";
import { Places } from "../kit/places.js";
import { type Millis, SECOND } from "../kit/time.js";
import type { ByteStream } from "../sys/bytestream.js";
import type { Clock } from "../sys/clock.js";
import type { FreeChunk } from "../sys/freeing.js";
import type { Log } from "../sys/log.js";
import type { Random } from "../sys/random.js";
import type { SmallReply, SmallRequest } from "../sys/streamserver.js";
import { CLOCK_SKEW_MAX_MS, REVOCATION_BYTES, verifyRevocation } from "../wire/admission.js";
import { DIAL_BACK_TYPE, encodeRefused, REVOKE_PATH } from "../wire/relay.js";
import { RELAY_LIMITS, type RelayLimits } from "./limits.js";
import { Line, type LineKeeper } from "./line.js";
import type { Member } from "./member.js";
import { renderMetrics } from "./metrics.js";
import type { SessionParts } from "./session.js";
import type { StunCounters } from "./stunserver.js";
import { Switchboard } from "./switchboard.js";
import { TURN_BUFFERS_KEPT, TurnMemory } from "./turnmemory.js";

export type RelayParts = {
  readonly noiseKey: KeyPair;
  /** Ed25519 public keys of the coordinators whose devices are served. */
  readonly signers: readonly Uint8Array[];
  readonly clock: Clock;
  readonly random: Random;
  readonly limits?: Partial<RelayLimits>;
  /** Sends one UDP datagram from a port that the receiver has never heard of; left out, no mapping is tried. */
  readonly sendDatagram?: (address: string, port: number, datagram: Uint8Array) => void;
  /** Left out, what was read is left to the collector. */
  readonly freeChunk?: FreeChunk | undefined;
  readonly log?: Log;
};

const TICK_MS: Millis = SECOND;
/** What devices are told when the relay goes away: how long it takes, and over how long they shall return. */
const RESTART_WAIT_MS: Millis = SECOND;
const RESTART_SPREAD_MS: Millis = 4 * SECOND;
/** For the last frames to leave. */
const CLOSE_GRACE_MS: Millis = 300;
const NONCES_MAX = 4_096;

/** A relay without a port of its own: whoever listens hands it connections and requests. */
export class RelayService {
  readonly #parts: RelayParts;
  readonly #limits: RelayLimits;
  readonly #switchboard: Switchboard;
  /** The same for every connection, and so there once. */
  readonly #sessionParts: SessionParts;
  readonly #keeper: LineKeeper;
  readonly #lines = new Set<Line>();
  /** Not logged in yet. */
  readonly #lobby: Places<Line>;
  readonly #byMember = new Map<Member, Line>();
  readonly #nonces = new Map<string, Millis>();
  readonly #over = new AbortController();
  #closing = false;

  constructor(parts: RelayParts) {
    this.#parts = parts;
    this.#limits = { ...RELAY_LIMITS, ...parts.limits };
    this.#lobby = new Places(this.#limits.lobbyMax);
    const memory = new TurnMemory(TURN_BUFFERS_KEPT, parts.freeChunk);
    this.#switchboard = new Switchboard(this.#limits, parts.random, memory, {
      cut: (member, reason) => {
        const line = this.#byMember.get(member);
        parts.log?.info("device cut", { device: member.publicKey, reason });
        if (line !== undefined) this.#end(line, encodeRefused(reason), reason === "revoked" || reason === "too-slow");
      },
      holdUntil: (member, at) => this.#hold(member, at),
      dialBack: (member, port, token) => this.#dialBack(member, port, token),
    });
    this.#sessionParts = { ...parts, limits: this.#limits, switchboard: this.#switchboard, memory };
    this.#keeper = {
      clock: parts.clock,
      end: (line, last) => this.#end(line, last, false),
      loggedIn: (line) => {
        this.#lobby.leave(line);
        if (line.member !== undefined) this.#byMember.set(line.member, line);
      },
      left: (line) => {
        this.#lines.delete(line);
        this.#lobby.leave(line);
        if (line.member !== undefined) this.#byMember.delete(line.member);
      },
    };
    void this.#run();
  }

  get switchboard(): Switchboard {
    return this.#switchboard;
  }

  /** Connections, logged in or not. */
  get connections(): number {
    return this.#lines.size;
  }

  /** A new connection, behind TLS and the upgrade. */
  accept(stream: ByteStream): void {
    if (this.#closing) {
      stream.terminate();
      return;
    }
    const line = new Line(stream, this.#sessionParts, this.#keeper);
    this.#lines.add(line);
    this.#lobby.enter(line, stream.remote)?.session.refuse("full");
    stream.listen(line);
  }

  /** Ends every connection of the device now; either of its keys will do. How many there were. */
  revoke(key: Key): number {
    return this.#switchboard.revoke(key, this.#parts.clock.wall());
  }

  /** A revocation signed by a coordinator, as it came by HTTP. True when it is genuine and new. */
  revokeSigned(token: Uint8Array): boolean {
    const wall = this.#parts.clock.wall();
    const revocation = verifyRevocation(token, this.#parts.signers, wall);
    if (revocation === undefined) return false;
    const nonce = toHex(revocation.nonce);
    if (this.#nonces.has(nonce)) return false;
    for (const [old, at] of this.#nonces) {
      if (wall - at < 2 * CLOCK_SKEW_MAX_MS && this.#nonces.size < NONCES_MAX) break;
      this.#nonces.delete(old);
    }
    this.#nonces.set(nonce, wall);
    this.#switchboard.revoke(revocation.key, Math.max(wall, revocation.issuedAt));
    return true;
  }

  /** Answers REVOKE_PATH; undefined for every other path. */
  answer({ method, path, body }: SmallRequest): SmallReply | undefined {
    if (path !== REVOKE_PATH) return undefined;
    if (method !== "POST") return { status: 405 };
    if (body.length !== REVOCATION_BYTES) return { status: 400 };
    return { status: this.revokeSigned(body) ? 204 : 403 };
  }

  /** Prometheus text. `stun`: the figures of whoever answers STUN beside it. */
  metrics(stun?: StunCounters): string {
    return renderMetrics(this.#switchboard, { connections: this.#lines.size, lobby: this.#lobby.size, stun });
  }

  /** Tells everybody when to come back, lets what is under way leave, and ends. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const { clock } = this.#parts;
    this.#switchboard.announce({ waitMs: RESTART_WAIT_MS, spreadMs: RESTART_SPREAD_MS }, clock.now());
    if (this.#lines.size > 0) await clock.sleep(CLOSE_GRACE_MS).catch(() => undefined);
    this.#over.abort();
    for (const { port } of this.#lines) port.terminate();
  }

  async #run(): Promise<void> {
    const { clock } = this.#parts;
    while (!this.#over.signal.aborted) {
      await clock.sleep(TICK_MS, this.#over.signal).catch(() => undefined);
      if (this.#over.signal.aborted) return;
      const now = clock.now();
      this.#switchboard.tick(now, clock.wall());
      this.#sessionParts.memory.tidy();
      for (const { session } of this.#lines) session.tick(now);
    }
  }

  #end(line: Line, last: Uint8Array, byForce: boolean): void {
    line.session.closed();
    // Who is to be cut at once, or does not read, is not waited for; the word may still get through.
    line.port.write([last]);
    if (byForce) line.port.terminate();
    else line.port.end();
  }

  #hold(member: Member, at: Millis): void {
    const { clock } = this.#parts;
    clock.sleep(Math.max(0, at - clock.now()), this.#over.signal).then(
      () => this.#switchboard.resume(member),
      () => undefined,
    );
  }

  #dialBack(member: Member, port: number, token: Uint8Array): void {
    const address = this.#byMember.get(member)?.port.remote;
    if (address === undefined || address === "") return;
    const magic = Uint8Array.of(
      PROBE_MAGIC >>> 24,
      (PROBE_MAGIC >>> 16) & 255,
      (PROBE_MAGIC >>> 8) & 255,
      PROBE_MAGIC & 255,
    );
    this.#parts.sendDatagram?.(address, port, concat(magic, Uint8Array.of(DIAL_BACK_TYPE), token));
  }
}
