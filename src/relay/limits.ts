import { type Millis, SECOND } from "../kit/time.js";
import { RELAY_SILENCE_MAX_MS } from "../wire/relay.js";
import type { OutboxLimits } from "./outbox.js";

/** Every bound of a relay; what happens at each stands beside it. */
export type RelayLimits = OutboxLimits & {
  /** Logged-in connections; a further one is refused as "full". */
  readonly membersMax: number;
  /** Connections of one device, while it changes networks; at one more the oldest is ended. */
  readonly perDeviceMax: number;
  /**
   * Connections that have not logged in, as many as TLS handshakes may be under way before them (sys/handshakes.ts);
   * at one more, the oldest from where most of them come makes room.
   */
  readonly lobbyMax: number;
  /** From the open connection to the login; then it is ended. */
  readonly loginTimeoutMs: Millis;
  /** From the first to the last byte of one frame; then the connection is ended. */
  readonly frameTimeoutMs: Millis;
  /** For one write to be taken; then the device has stopped reading and is ended. */
  readonly writeTimeoutMs: Millis;
  readonly pingEveryMs: Millis;
  /** Without an answer to a ping of ours; then the device is ended: whoever does not read cannot answer. */
  readonly silenceMaxMs: Millis;
  /** The most a device may send; the admission's class may say less. Above it, reading is held up. */
  readonly bytesPerSecondMax: number;
  /** Revocations remembered; at one more the oldest is forgotten, whose admissions have then long expired. */
  readonly revocationsMax: number;
};

export const RELAY_LIMITS: RelayLimits = {
  membersMax: 4_096,
  perDeviceMax: 4,
  lobbyMax: 512,
  loginTimeoutMs: 10 * SECOND,
  frameTimeoutMs: 10 * SECOND,
  writeTimeoutMs: 10 * SECOND,
  pingEveryMs: 25 * SECOND,
  silenceMaxMs: RELAY_SILENCE_MAX_MS,
  bytesPerSecondMax: 125_000_000,
  revocationsMax: 65_536,
  dataBytesMax: 1_048_576,
  probeBytesMax: 32_768,
  noteBytesMax: 4_096,
  writeBytesMax: 262_144,
};
