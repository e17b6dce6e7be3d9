import assert from "node:assert/strict";
import { concat, utf8 } from "../../src/kit/bytes.js";
import { keyBytes } from "../../src/kit/key.js";
import { SECOND } from "../../src/kit/time.js";
import { FrameReader, type FrameSink } from "../../src/relay/framereader.js";
import { RELAY_LIMITS, type RelayLimits } from "../../src/relay/limits.js";
import type { Member } from "../../src/relay/member.js";
import { Switchboard } from "../../src/relay/switchboard.js";
import { TURN_BUFFERS_KEPT, TurnMemory } from "../../src/relay/turnmemory.js";
import { encodeFrame, FRAME } from "../../src/wire/relay.js";
import { addressOf, framesIn, type Heard, numbered, verifiedOf, WALL } from "./relaylab.js";

/** The switchboard with devices by name; a device reads what it is sent at once, unless it is told not to. */
export class World {
  now = 1_000;
  readonly cuts: string[] = [];
  readonly dialBacks: string[] = [];
  readonly board: Switchboard;
  readonly devices = new Map<Member, Device>();
  readonly memory = new TurnMemory(TURN_BUFFERS_KEPT);

  constructor(limits: Partial<RelayLimits> = {}) {
    this.board = new Switchboard({ ...RELAY_LIMITS, ...limits }, numbered(), this.memory, {
      cut: (member, reason) => void this.cuts.push(`${this.devices.get(member)?.name} ${reason}`),
      holdUntil: (member, at) => {
        const device = this.devices.get(member);
        if (device !== undefined) device.heldUntil = at;
      },
      dialBack: (member, port) => void this.dialBacks.push(`${this.devices.get(member)?.name} ${port}`),
    });
  }

  wall(): number {
    return WALL + this.now - 1_000;
  }

  join(name: string): Device {
    const device = new Device(name, this);
    const member = this.board.join(verifiedOf(name, { now: this.wall() }), device, this.now, this.wall());
    assert.ok(typeof member !== "string", String(member));
    device.member = member;
    this.devices.set(member, device);
    return device;
  }

  pass(ms: number): void {
    for (const end = this.now + ms; this.now < end; ) {
      this.now += SECOND;
      this.board.tick(this.now, this.wall());
      for (const device of this.devices.values()) device.answerPings();
    }
  }
}

export class Device {
  readonly name: string;
  readonly #world: World;
  member: Member | undefined;
  reads = true;
  answers = true;
  heldUntil: number | undefined;
  /** Not copied: as to a socket, what it says is looked at when it is taken. */
  readonly #writes: (readonly Uint8Array[])[] = [];
  #read: Uint8Array[] = [];
  #reader: FrameReader | undefined;

  constructor(name: string, world: World) {
    this.name = name;
    this.#world = world;
  }

  write(parts: readonly Uint8Array[]): void {
    this.#writes.push(parts);
    if (this.reads) this.read();
  }

  pause(): void {}

  resume(): void {
    this.heldUntil = undefined;
  }

  /** Takes the write that is under way, and with it every one that follows. */
  read(): void {
    for (let write = this.#writes.shift(); write !== undefined; write = this.#writes.shift()) {
      this.#read.push(...write.map((part) => part.slice()));
      if (this.member !== undefined) this.#world.board.written(this.member, this.#world.now);
    }
  }

  say(...frames: Uint8Array[]): void {
    const { board, now } = this.#world;
    const member = this.member ?? assert.fail("not joined");
    const sink: FrameSink = {
      frame: (type, buffer, at, end) => board.frame(member, type, buffer, at, end, this.#world.now),
      flush: () => board.flush(member, this.#world.now),
      malformed: () => board.counters.malformed++,
      oversized: () => {
        this.#world.cuts.push(`${this.name} unreadable`);
        board.leave(member);
      },
    };
    this.#reader ??= new FrameReader(sink, this.#world.memory);
    const chunk = concat(...frames);
    this.#reader.push([chunk]);
    board.charge(member, chunk.length, now);
  }

  heard(): Heard[] {
    if (this.reads) this.read();
    return framesIn(concat(...this.#read.splice(0)));
  }

  answerPings(): void {
    if (!this.answers || !this.reads || this.member?.over) return;
    for (const { type, body } of this.heard()) if (type === FRAME.ping) this.say(encodeFrame(FRAME.pong, body));
  }
}

/** A datagram as its receiver hears it. */
export const from = (name: string, payload: string): Heard => ({
  type: FRAME.datagram,
  body: concat(keyBytes(addressOf(name)), utf8(payload)),
});
