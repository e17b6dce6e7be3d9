import { type KeyPair, keyPairOf } from "../kit/crypto.js";
import { KEY_BYTES, keyOf } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import { verifyAdmission } from "../wire/admission.js";
import { type Response, respond, type Transport } from "../wire/noise.js";
import {
  encodeFrame,
  encodeRefused,
  encodeWelcome,
  FRAME,
  HEADER_BYTES,
  prologueOf,
  type RelayRefusal,
} from "../wire/relay.js";
import { countIn } from "./counters.js";
import { FrameReader, type FrameSink } from "./framereader.js";
import type { RelayLimits } from "./limits.js";
import type { Member } from "./member.js";
import type { Port } from "./outbox.js";
import type { Switchboard } from "./switchboard.js";
import type { TurnMemory } from "./turnmemory.js";

export type SessionParts = {
  readonly noiseKey: KeyPair;
  /** Ed25519 public keys of the coordinators whose devices are served. */
  readonly signers: readonly Uint8Array[];
  readonly limits: RelayLimits;
  readonly random: (length: number) => Uint8Array;
  readonly switchboard: Switchboard;
  readonly memory: TurnMemory;
};

/** One end of one connection, as the session uses it. */
export type SessionWorld = {
  readonly port: Port;
  /** Sends a last frame and ends the connection. */
  end(last: Uint8Array): void;
  loggedIn(member: Member): void;
};

type Stage =
  | { kind: "initiation" }
  | { kind: "login"; transport: Transport; remotePublic: Uint8Array }
  | { kind: "member"; member: Member }
  | { kind: "over" };

/** One connection from its first byte: handshake, login, and then frames for the switchboard. No socket, no clock. */
export class Session implements FrameSink {
  readonly #parts: SessionParts;
  readonly #world: SessionWorld;
  readonly #address: string;
  /** Given up with the handshake, which alone needs it. */
  #binding: Uint8Array | undefined;
  readonly #reader: FrameReader;
  readonly #openedAt: Millis;
  #stage: Stage = { kind: "initiation" };
  #now: Millis;
  #wall: Millis;
  #frames = 0;
  /** Since when a frame has been incomplete. */
  #frameSince: Millis | undefined;

  constructor(
    parts: SessionParts,
    world: SessionWorld,
    remote: { readonly address: string; readonly binding: Uint8Array | undefined },
    now: Millis,
    wall: Millis,
  ) {
    this.#parts = parts;
    this.#world = world;
    this.#address = remote.address;
    this.#binding = remote.binding;
    this.#openedAt = now;
    this.#now = now;
    this.#wall = wall;
    this.#reader = new FrameReader(this, parts.memory);
  }

  /** What came together. The chunks are the session's from here on. */
  receive(chunks: readonly Uint8Array[], now: Millis, wall: Millis): void {
    if (this.#stage.kind === "over") return;
    this.#now = now;
    this.#wall = wall;
    const framesBefore = this.#frames;
    let bytes = 0;
    for (const chunk of chunks) bytes += chunk.length;
    this.#reader.push(chunks); // they are empty after it
    if (!this.#reader.inFrame) this.#frameSince = undefined;
    else if (this.#frameSince === undefined || this.#frames > framesBefore) this.#frameSince = now;
    if (this.#stage.kind === "member") this.#parts.switchboard.charge(this.#stage.member, bytes, now);
  }

  /** Ends who takes too long to log in, or over one frame. */
  tick(now: Millis): void {
    const { loginTimeoutMs, frameTimeoutMs } = this.#parts.limits;
    const { kind } = this.#stage;
    if (kind === "over") return;
    const late = kind !== "member" && now - this.#openedAt >= loginTimeoutMs;
    const dribbling = this.#frameSince !== undefined && now - this.#frameSince >= frameTimeoutMs;
    if (late || dribbling) this.#refuse("too-slow");
  }

  /** Ends the connection with a word. */
  refuse(reason: RelayRefusal): void {
    this.#refuse(reason);
  }

  /** The connection has ended. */
  closed(): void {
    if (this.#stage.kind === "member") this.#parts.switchboard.leave(this.#stage.member);
    this.#stage = { kind: "over" };
  }

  /** The connection's last write has left. */
  written(now: Millis): void {
    if (this.#stage.kind === "member") this.#parts.switchboard.written(this.#stage.member, now);
  }

  /** For the reader alone, as are flush(), malformed() and oversized(). */
  frame(type: number, buffer: Uint8Array, at: number, end: number): void {
    this.#frames++;
    const stage = this.#stage;
    if (stage.kind === "member" && type !== FRAME.renewal) {
      this.#parts.switchboard.frame(stage.member, type, buffer, at, end, this.#now);
      return;
    }
    const body = buffer.subarray(at + HEADER_BYTES, end);
    switch (stage.kind) {
      case "over":
        return;
      case "member":
        this.#renew(stage.member, body);
        return;
      case "initiation": {
        const response = type === FRAME.initiation ? this.#respond(body) : undefined;
        if (response === undefined) {
          this.#refuse("handshake-failed");
          return;
        }
        this.#stage = { kind: "login", transport: response.transport, remotePublic: response.remotePublic };
        this.#world.port.write([encodeFrame(FRAME.reply, response.reply)]);
        return;
      }
      case "login": {
        // Only whoever made this very initiation can seal: a replayed one ends here.
        const token = type === FRAME.login ? stage.transport.open(body) : undefined;
        if (token === undefined) {
          this.#refuse("handshake-failed");
          return;
        }
        this.#login(stage, token);
        return;
      }
    }
  }

  flush(): void {
    if (this.#stage.kind === "member") this.#parts.switchboard.flush(this.#stage.member, this.#now);
  }

  malformed(): void {
    this.#frames++;
    this.#parts.switchboard.counters.malformed++;
  }

  oversized(): void {
    this.#parts.switchboard.counters.oversized++;
    this.#refuse("unreadable");
  }

  #respond(message: Uint8Array): Response | undefined {
    const { noiseKey, random } = this.#parts;
    const ephemeral = keyPairOf(random(KEY_BYTES));
    const prologue = prologueOf(this.#binding);
    this.#binding = undefined;
    return respond({ local: noiseKey, prologue, ephemeral, message });
  }

  #login({ transport, remotePublic }: { transport: Transport; remotePublic: Uint8Array }, token: Uint8Array): void {
    const { signers, switchboard, limits } = this.#parts;
    const verified = verifyAdmission(token, signers, this.#wall);
    if (typeof verified === "string") {
      this.#refuse(`admission-${verified}`);
      return;
    }
    if (verified.admission.machineKey !== keyOf(remotePublic)) {
      this.#refuse("admission-of-another");
      return;
    }
    const member = switchboard.join(verified, this.#world.port, this.#now, this.#wall);
    if (typeof member === "string") {
      this.#refuse(member);
      return;
    }
    this.#stage = { kind: "member", member };
    this.#world.loggedIn(member);
    const welcome = encodeWelcome({ pingEveryMs: limits.pingEveryMs, address: this.#address });
    member.outbox.add("note", encodeFrame(FRAME.welcome, transport.seal(welcome)), 1);
    member.outbox.flush(this.#now);
  }

  #renew(member: Member, token: Uint8Array): void {
    const verified = verifyAdmission(token, this.#parts.signers, this.#wall);
    const refusal: RelayRefusal | undefined =
      typeof verified === "string"
        ? `admission-${verified}`
        : this.#parts.switchboard.renew(member, verified, this.#now, this.#wall);
    // The admission it has still holds: a bad renewal alone takes nothing away.
    if (refusal === "revoked") this.#refuse(refusal);
    else if (refusal !== undefined) countIn(this.#parts.switchboard.counters.refused, refusal);
  }

  #refuse(reason: RelayRefusal): void {
    const { kind } = this.#stage;
    if (kind === "over") return;
    if (this.#stage.kind === "member") {
      // What it sent before is sent on while it still lies where it was read: the reader lets go of that next.
      this.#parts.switchboard.flush(this.#stage.member, this.#now);
      this.#parts.switchboard.leave(this.#stage.member);
    }
    this.#stage = { kind: "over" };
    const { counters } = this.#parts.switchboard;
    countIn(kind === "member" ? counters.cut : counters.refused, reason);
    this.#world.end(encodeRefused(reason));
  }
}
