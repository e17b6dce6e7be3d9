import type { ByteStream, StreamListener } from "../sys/bytestream.js";
import type { Clock } from "../sys/clock.js";
import type { Member } from "./member.js";
import { Session, type SessionParts, type SessionWorld } from "./session.js";

/** Where a connection is one of many. */
export type LineKeeper = {
  readonly clock: Clock;
  /** Sends a last frame and ends the connection. */
  end(line: Line, last: Uint8Array): void;
  loggedIn(line: Line): void;
  left(line: Line): void;
};

/**
 * One connection, between its stream and its session. An object with methods and no closures, which take four times
 * the memory: a relay holds thousands of these, and most are idle.
 */
export class Line implements StreamListener, SessionWorld {
  readonly port: ByteStream;
  readonly session: Session;
  member: Member | undefined;
  readonly #keeper: LineKeeper;

  constructor(stream: ByteStream, parts: SessionParts, keeper: LineKeeper) {
    const { clock } = keeper;
    this.port = stream;
    this.#keeper = keeper;
    const remote = { address: stream.remote, binding: stream.binding };
    this.session = new Session(parts, this, remote, clock.now(), clock.wall());
  }

  data(chunks: readonly Uint8Array[]): void {
    const { clock } = this.#keeper;
    this.session.receive(chunks, clock.now(), clock.wall());
  }

  written(): void {
    this.session.written(this.#keeper.clock.now());
  }

  closed(): void {
    this.session.closed();
    this.#keeper.left(this);
  }

  end(last: Uint8Array): void {
    this.#keeper.end(this, last);
  }

  loggedIn(member: Member): void {
    this.member = member;
    this.#keeper.loggedIn(this);
  }
}
