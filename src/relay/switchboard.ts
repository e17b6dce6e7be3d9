import { KEY_BYTES, type Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import {
  ADMISSION_LIFETIME_MAX_MS,
  type Admission,
  CLOCK_SKEW_MAX_MS,
  stayOf,
  type Verified,
} from "../wire/admission.js";
import {
  decodeDialBack,
  encodeFrame,
  encodeRestarting,
  FRAME,
  HEADER_BYTES,
  PING_BYTES,
  type RelayRefusal,
  type Restarting,
} from "../wire/relay.js";
import { Counters, countIn } from "./counters.js";
import type { RelayLimits } from "./limits.js";
import { Directory, Member, type Place } from "./member.js";
import { Outbox, type OutboxKind, type OutboxTally, type Port } from "./outbox.js";
import type { TurnMemory } from "./turnmemory.js";

/** What the switchboard wants done in the world. */
export type SwitchboardEvents = {
  /** The member is out already: tell it why, and end its connection. */
  cut(member: Member, reason: RelayRefusal): void;
  /** The member has sent too fast: call resume() at this time. */
  holdUntil(member: Member, at: Millis): void;
  dialBack(member: Member, port: number, token: Uint8Array): void;
};

/** A held member waits at least so long, so that a fast one is not stopped and started for every chunk. */
const HOLD_MS_MIN: Millis = 10;

/**
 * Forwards datagrams between the devices that are logged in, by key. Its input is whole frames and time; sockets are
 * Ports. A frame is forwarded where it lies: the receiver's key in it is overwritten with the sender's, and frames in a
 * row for one receiver leave as one stretch of the buffer they came in.
 */
export class Switchboard {
  readonly counters = new Counters();
  readonly #limits: RelayLimits;
  readonly #events: SwitchboardEvents;
  readonly #random: (length: number) => Uint8Array;
  readonly #memory: TurnMemory;
  readonly #directory = new Directory();
  /** By key, the wall time of its revocation; oldest first. */
  readonly #revoked = new Map<Key, Millis>();
  // The stretch of frames that is being gathered, and who is to be written to when the buffer has been read.
  #runBuffer: Uint8Array | undefined;
  #runAt = 0;
  #runEnd = 0;
  #runFrames = 0;
  #runType = 0;
  #runTo: Place | undefined;
  /** The buffer that was looked at last; forgotten at flush(), so that it is not kept alive. */
  #viewed: Uint8Array | undefined;
  #view: DataView = new DataView(new ArrayBuffer(0));
  readonly #touched = new Set<Member>();
  readonly #tally: OutboxTally = {
    dropped: (kind, frames) => {
      this.counters.dropped[kind] += frames;
    },
  };

  constructor(
    limits: RelayLimits,
    random: (length: number) => Uint8Array,
    memory: TurnMemory,
    events: SwitchboardEvents,
  ) {
    this.#limits = limits;
    this.#random = random;
    this.#memory = memory;
    this.#events = events;
  }

  get members(): ReadonlySet<Member> {
    return this.#directory.members;
  }

  /** Bytes that wait in all outboxes. */
  get queuedBytes(): number {
    let sum = 0;
    for (const member of this.#directory.members) sum += member.outbox.bytes;
    return sum;
  }

  /** Lets a proven device in. `wall` is the time that admissions speak of. */
  join({ admission, network }: Verified, port: Port, now: Millis, wall: Millis): Member | RelayRefusal {
    if (this.isRevoked(admission)) return "revoked";
    if (this.#directory.members.size >= this.#limits.membersMax) return "full";
    const place = this.#directory.open(network, admission.publicKey);
    const outbox = new Outbox(port, this.#limits, this.#tally, this.#memory);
    const expiresAt = now + stayOf(admission, wall);
    const member = new Member({ admission, network, port, outbox, place, limits: this.#limits, expiresAt }, now);
    this.#directory.add(member);
    this.counters.logins++;
    if (place.members.length > this.#limits.perDeviceMax) {
      const [oldest] = place.members;
      if (oldest !== undefined) this.#cut(oldest, "full");
    }
    return member;
  }

  /** A newer admission of the same device; undefined when it was taken. */
  renew(member: Member, { admission, network }: Verified, now: Millis, wall: Millis): RelayRefusal | undefined {
    if (this.isRevoked(admission)) return "revoked";
    const same =
      admission.machineKey === member.machineKey &&
      admission.publicKey === member.publicKey &&
      network === member.network;
    if (!same) return "admission-of-another";
    if (admission.issuedAt < member.issuedAt) return undefined; // an older one than it has changes nothing
    member.issuedAt = admission.issuedAt;
    member.expiresAt = now + stayOf(admission, wall);
    return undefined;
  }

  /** The connection has ended. */
  leave(member: Member): void {
    if (member.over) return;
    member.over = true;
    this.#directory.remove(member);
  }

  /** Ends every connection of the device now, and refuses admissions made until now. Either key will do. */
  revoke(key: Key, wall: Millis): number {
    this.counters.revocations++;
    this.#revoked.delete(key);
    this.#revoked.set(key, wall);
    if (this.#revoked.size > this.#limits.revocationsMax)
      for (const [oldest] of this.#revoked) {
        this.#revoked.delete(oldest);
        break;
      }
    const cut = [...this.#directory.members].filter((one) => one.machineKey === key || one.publicKey === key);
    for (const member of cut) this.#cut(member, "revoked");
    return cut.length;
  }

  isRevoked({ machineKey, publicKey, issuedAt }: Admission): boolean {
    const at = Math.max(this.#revoked.get(machineKey) ?? -1, this.#revoked.get(publicKey) ?? -1);
    return issuedAt <= at;
  }

  /** One frame of a member; flush() ends the buffer it came in. */
  frame(from: Member, type: number, buffer: Uint8Array, at: number, end: number, now: Millis): void {
    if (type === FRAME.datagram || type === FRAME.probe) {
      this.#forward(from, type, buffer, at, end, now);
      return;
    }
    this.#endRun(from);
    const body = buffer.subarray(at + HEADER_BYTES, end);
    if (type === FRAME.ping) this.#note(from, encodeFrame(FRAME.pong, body));
    else if (type === FRAME.pong) this.#heardPong(from, body, now);
    else if (type === FRAME.dialBack) this.#dialBack(from, body, now);
    else this.counters.malformed++;
  }

  /** All frames of a buffer have been handed over: what they brought is sent on. */
  flush(from: Member, now: Millis): void {
    this.#endRun(from);
    for (const member of this.#touched) if (!member.over) member.outbox.flush(now);
    this.#touched.clear();
    this.#viewed = undefined;
  }

  /** Charges what a member sent; beyond its rate, reading from it is held up. */
  charge(member: Member, bytes: number, now: Millis): void {
    const wait = member.bucket.charge(bytes, now);
    if (wait === 0 || member.over) return;
    this.counters.rateHolds++;
    member.port.pause();
    this.#events.holdUntil(member, now + Math.max(HOLD_MS_MIN, wait));
  }

  resume(member: Member): void {
    if (!member.over) member.port.resume();
  }

  /** The member's last write has left. */
  written(member: Member, now: Millis): void {
    if (!member.over) member.outbox.written(now);
  }

  /** To be called every second or so: pings, and ends who is silent, slow or expired. */
  tick(now: Millis, wall: Millis): void {
    const { pingEveryMs, silenceMaxMs, writeTimeoutMs } = this.#limits;
    for (const member of [...this.#directory.members]) {
      const { writingSince } = member.outbox;
      if (now >= member.expiresAt) this.#cut(member, "admission-expired");
      else if (writingSince !== undefined && now - writingSince >= writeTimeoutMs) this.#cut(member, "too-slow");
      else if (now - member.heardAt >= silenceMaxMs) this.#cut(member, "too-slow");
      else if (now - member.pingedAt >= pingEveryMs) {
        member.pingedAt = now;
        member.ping = this.#random(PING_BYTES);
        member.outbox.add("note", encodeFrame(FRAME.ping, member.ping), 1);
        member.outbox.flush(now);
      }
    }
    const memory = ADMISSION_LIFETIME_MAX_MS + CLOCK_SKEW_MAX_MS;
    for (const [key, at] of this.#revoked) {
      if (wall - at < memory) break;
      this.#revoked.delete(key);
    }
  }

  /** Tells everybody that the relay goes away for a moment. */
  announce(restarting: Restarting, now: Millis): void {
    for (const member of this.#directory.members) {
      member.outbox.add("note", encodeRestarting(restarting), 1);
      member.outbox.flush(now);
    }
  }

  #forward(from: Member, type: number, buffer: Uint8Array, at: number, end: number, now: Millis): void {
    const keyAt = at + HEADER_BYTES;
    const view = this.#viewOf(buffer);
    let to = from.lastTo;
    if (to === undefined || to.active === undefined || !sameWords(to.words, view, keyAt)) {
      to = this.#directory.find(from.network, buffer, keyAt);
      if (to?.active === undefined) {
        this.#unknown(from, buffer, keyAt, now);
        return;
      }
      from.lastTo = to;
    }
    const source = from.place.words;
    for (let i = 0; i < source.length; i++) view.setInt32(keyAt + i * 4, source[i] ?? 0);
    if (this.#runBuffer === buffer && this.#runEnd === at && this.#runTo === to && this.#runType === type) {
      this.#runEnd = end;
      this.#runFrames++;
      return;
    }
    this.#endRun(from);
    this.#runBuffer = buffer;
    this.#runAt = at;
    this.#runEnd = end;
    this.#runFrames = 1;
    this.#runType = type;
    this.#runTo = to;
  }

  #viewOf(buffer: Uint8Array): DataView {
    if (this.#viewed !== buffer) {
      this.#viewed = buffer;
      this.#view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    }
    return this.#view;
  }

  #endRun(from: Member): void {
    const buffer = this.#runBuffer;
    if (buffer === undefined) return;
    this.#runBuffer = undefined;
    // The last writer is the one that answers reach.
    from.place.active = from;
    const to = this.#runTo?.active;
    if (to === undefined) return;
    const kind: OutboxKind = this.#runType === FRAME.probe ? "probe" : "data";
    const whole = this.#runAt === 0 && this.#runEnd === buffer.length;
    to.outbox.add(kind, whole ? buffer : buffer.subarray(this.#runAt, this.#runEnd), this.#runFrames);
    this.counters.forwardedFrames += this.#runFrames;
    this.counters.forwardedBytes += this.#runEnd - this.#runAt;
    if (kind === "probe") this.counters.probeFrames += this.#runFrames;
    this.#touched.add(to);
  }

  #unknown(from: Member, buffer: Uint8Array, keyAt: number, now: Millis): void {
    this.counters.unknownDestination++;
    if (from.spendNote(now)) this.#note(from, encodeFrame(FRAME.gone, buffer.subarray(keyAt, keyAt + KEY_BYTES)));
  }

  #note(to: Member, frame: Uint8Array): void {
    to.outbox.add("note", frame, 1);
    this.#touched.add(to);
  }

  #heardPong(from: Member, body: Uint8Array, now: Millis): void {
    if (from.ping === undefined || !sameKey(from.ping, body, 0)) return;
    from.ping = undefined;
    from.heardAt = now;
  }

  #dialBack(from: Member, body: Uint8Array, now: Millis): void {
    const asked = decodeDialBack(body);
    if (asked === undefined) this.counters.malformed++;
    else if (from.spendDialBack(now)) {
      this.counters.dialBacks++;
      this.#events.dialBack(from, asked.port, asked.token);
    }
  }

  #cut(member: Member, reason: RelayRefusal): void {
    if (member.over) return;
    this.leave(member);
    countIn(this.counters.cut, reason);
    this.#events.cut(member, reason);
  }
}

function sameWords(words: readonly number[], view: DataView, at: number): boolean {
  for (let i = 0; i < words.length; i++) if (view.getInt32(at + i * 4) !== words[i]) return false;
  return true;
}

function sameKey(key: Uint8Array, buffer: Uint8Array, at: number): boolean {
  for (let i = 0; i < key.length; i++) if (key[i] !== buffer[at + i]) return false;
  return true;
}
