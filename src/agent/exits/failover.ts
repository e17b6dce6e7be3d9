import { MINUTE, type Millis, SECOND } from "../../kit/time.js";

/**
 * Which of several exits is used, out of what is heard of each: no sockets, no clock.
 *
 * An exit in use that has been asked again and again and is silent is left for one that answers, and is come back to
 * when it has answered for a while. What fails soon after it was come back to has to answer for twice as long.
 * Where nobody answers it is this device's own network that is dead: nothing is changed.
 */

/** As the person listed them, or by the time their answers take. */
export type Ranking = "listed" | "nearest";

export type Reason = "silent" | "cut-off" | "gone" | "back" | "nearer";
export type Switch = { readonly from: string; readonly to: string; readonly at: Millis; readonly why: Reason };

/** Silent: asked so often, for so long, without a sign of life. One in ten datagrams may be lost without that. */
const SILENT_MS: Millis = 4 * SECOND;
const SILENT_ASKED_MIN = 4;
/** Cut off from the Internet: it answers, and its resolver, which did, does not. */
const CUT_OFF_MS: Millis = 6 * SECOND;
const CUT_OFF_ASKED_MIN = 3;
/** An exit that is preferred is used after answering for so long; doubled, up to the second, when it fails again soon. */
export const HOLD_MS: Millis = MINUTE;
export const HOLD_MS_MAX: Millis = 32 * MINUTE;
/** Used for so long without failing, its past is forgotten. */
const STEADY_MS: Millis = 10 * MINUTE;
/** Nearest: before this all are asked, and then the quickest is used. */
export const SETTLE_MS: Millis = 2 * SECOND;
/** Nearer is what takes so much less, in both ways of counting; and no other is looked for so soon after. */
export const [NEARER_SHARE, NEARER_MS, NEARER_GAP_MS] = [0.75, 10, 5 * MINUTE];

/** How often each is asked: in doubt; in use; preferred to the one in use; any other; nobody answers for long. */
const ASK_MS = { doubted: SECOND, used: 3 * SECOND, preferred: 5 * SECOND, spare: 20 * SECOND, lost: 5 * SECOND };
/** After so long without any exit, each is asked less often. */
const LOST_MS: Millis = 30 * SECOND;
/** The weight of a new round trip against what is known. */
const SMOOTHING = 0.3;

/** What was asked since the last answer. */
type Unanswered = { readonly since: Millis; readonly count: number };

type Sight = {
  askedAt: Millis;
  unanswered: Unanswered | undefined;
  /** Of the resolver: whether it ever answered, for one that never did proves nothing. */
  beyond: { known: boolean; unanswered: Unanswered | undefined };
  /** It has answered without a gap since then. */
  upSince: Millis | undefined;
  /** It has been up, and preferred to the one in use, since then. */
  betterSince: Millis | undefined;
  roundTripMs: Millis | undefined;
  usedSince: Millis;
  holdMs: Millis;
};

export class Failover {
  readonly #ranking: Ranking;
  readonly #began: Millis;
  readonly #before: string | undefined;
  readonly #sights = new Map<string, Sight>();
  #current: string | undefined;
  #isSettled: boolean;
  #last: Switch | undefined;
  #lostSince: Millis | undefined;

  /** `before`: what was used until now, and is while it is not known who is the nearest. */
  constructor(ranking: Ranking, now: Millis, before?: string) {
    this.#before = before;
    this.#ranking = ranking;
    this.#began = now;
    this.#isSettled = ranking === "listed";
  }

  /** The exit to use; undefined while there is none at all. */
  get current(): string | undefined {
    return this.#current;
  }

  get last(): Switch | undefined {
    return this.#last;
  }

  /** The exits there are, the most wanted first. What is known of those that stay is kept. */
  follow(names: readonly string[], now: Millis): void {
    const known = new Map(this.#sights);
    this.#sights.clear();
    for (const name of names) this.#sights.set(name, known.get(name) ?? unseen(now));
    if (this.#current !== undefined && this.#sights.has(this.#current)) return;
    const start = this.#isSettled ? undefined : names.find((name) => name === this.#before);
    const next = start ?? this.#best((sight) => isUp(sight, now)) ?? names[0];
    // Where none is left the former one stays named, and nothing leaves beside it.
    if (next === undefined) return;
    if (this.#current !== undefined) this.#last = { from: this.#current, to: next, at: now, why: "gone" };
    this.#use(next, now);
  }

  /** Who is to be asked now. */
  due(now: Millis): string[] {
    return [...this.#sights]
      .filter(([name, sight]) => now - sight.askedAt >= this.#gap(name, sight, now))
      .map(([name]) => name);
  }

  asked(name: string, now: Millis): void {
    const sight = this.#sights.get(name);
    if (sight === undefined) return;
    sight.askedAt = now;
    sight.unanswered = oneMore(sight.unanswered, now);
  }

  /** A sign of life; `roundTripMs` where it was an answer. */
  heard(name: string, now: Millis, roundTripMs?: Millis): void {
    const sight = this.#sights.get(name);
    if (sight === undefined) return;
    sight.unanswered = undefined;
    sight.upSince ??= now;
    if (roundTripMs === undefined) return;
    const before = sight.roundTripMs ?? roundTripMs;
    sight.roundTripMs = before + SMOOTHING * (roundTripMs - before);
  }

  /** This device is in another network: what was not answered in the former one says nothing of an exit. */
  moved(): void {
    for (const sight of this.#sights.values()) {
      sight.unanswered = undefined;
      sight.beyond.unanswered = undefined;
    }
  }

  askedBeyond(name: string, now: Millis): void {
    const beyond = this.#sights.get(name)?.beyond;
    if (beyond !== undefined) beyond.unanswered = oneMore(beyond.unanswered, now);
  }

  /** Something from behind the exit; `isResolver` when it was the answer to a question. */
  heardBeyond(name: string, isResolver: boolean): void {
    const beyond = this.#sights.get(name)?.beyond;
    if (beyond === undefined) return;
    beyond.unanswered = undefined;
    beyond.known ||= isResolver;
  }

  /** Asked once a second, and whenever something has changed; the switch that it made. */
  decide(now: Millis): Switch | undefined {
    for (const sight of this.#sights.values()) if (failure(sight, now) !== undefined) sight.upSince = undefined;
    const current = this.#current;
    const used = current === undefined ? undefined : this.#sights.get(current);
    if (current === undefined || used === undefined) return undefined;
    if (!this.#isSettled && !this.#settle(now)) return undefined;
    if (this.#current !== current) return undefined;
    for (const [name, sight] of this.#sights)
      if (!isUp(sight, now) || !this.#isBetter(name, current)) sight.betterSince = undefined;
      else sight.betterSince ??= now;
    if (now - used.usedSince >= STEADY_MS) used.holdMs = HOLD_MS;
    const why = failure(used, now);
    if (why !== undefined) return this.#leave(current, used, why, now);
    this.#lostSince = undefined;
    const ready = this.#best((sight) => sight.betterSince !== undefined && now - sight.betterSince >= sight.holdMs);
    if (ready === undefined) return undefined;
    if (this.#ranking === "listed") return this.#switch(ready, "back", now);
    if (now - used.usedSince < NEARER_GAP_MS && this.#last?.why === "nearer") return undefined;
    return this.#switch(ready, "nearer", now);
  }

  /** The exit that will be used instead of this one, and in how long; no time while it does not answer. */
  returns(now: Millis): { readonly to: string; readonly inMs?: Millis; readonly holdMs: Millis } | undefined {
    if (this.#ranking === "nearest") return undefined;
    const [to, sight] = [...this.#sights][0] ?? [];
    if (to === undefined || sight === undefined || to === this.#current) return undefined;
    const { betterSince, holdMs } = sight;
    return { to, holdMs, ...(betterSince === undefined ? {} : { inMs: Math.max(0, betterSince + holdMs - now) }) };
  }

  /** Each exit in turn, and how it does. */
  sights(
    now: Millis,
  ): { readonly name: string; readonly state: "answers" | "silent" | "unknown"; readonly roundTripMs?: Millis }[] {
    return [...this.#sights].map(([name, sight]) => ({
      name,
      state: failure(sight, now) !== undefined ? "silent" : sight.upSince === undefined ? "unknown" : "answers",
      ...(sight.roundTripMs === undefined ? {} : { roundTripMs: sight.roundTripMs }),
    }));
  }

  #gap(name: string, sight: Sight, now: Millis): Millis {
    if (this.#lostSince !== undefined && now - this.#lostSince >= LOST_MS) return ASK_MS.lost;
    const used = this.#sights.get(this.#current ?? "");
    if (name === this.#current) return isDoubted(sight) ? ASK_MS.doubted : ASK_MS.used;
    if ((used?.unanswered?.count ?? 0) > 1) return ASK_MS.doubted;
    if (isDoubted(sight) && failure(sight, now) === undefined) return ASK_MS.doubted;
    const isWanted = this.#ranking === "nearest" ? !this.#isSettled : this.#isBetter(name, this.#current ?? "");
    return isWanted ? ASK_MS.preferred : ASK_MS.spare;
  }

  /** False while it is too early to say who is the nearest. */
  #settle(now: Millis): boolean {
    if (now - this.#began < SETTLE_MS) return false;
    this.#isSettled = true;
    const nearest = this.#best((sight) => isUp(sight, now));
    if (nearest !== undefined && nearest !== this.#current) this.#use(nearest, now);
    return true;
  }

  #leave(name: string, used: Sight, why: Reason, now: Millis): Switch | undefined {
    const next = this.#best((sight, other) => other !== name && isUp(sight, now) && (sight.unanswered?.count ?? 0) < 2);
    this.#lostSince ??= now;
    if (next === undefined) return undefined;
    const isAgain = now - used.usedSince < STEADY_MS && this.#last?.to === name && this.#last.why !== "silent";
    used.holdMs = isAgain ? Math.min(HOLD_MS_MAX, 2 * used.holdMs) : used.holdMs;
    // Only the exit in use can be asked for what is behind it.
    used.beyond = { known: used.beyond.known, unanswered: undefined };
    used.upSince = undefined;
    return this.#switch(next, why, now);
  }

  #switch(to: string, why: Reason, now: Millis): Switch {
    this.#last = { from: this.#current ?? to, to, at: now, why };
    this.#use(to, now);
    return this.#last;
  }

  #use(name: string, now: Millis): void {
    this.#current = name;
    this.#lostSince = undefined;
    for (const [other, sight] of this.#sights) {
      sight.betterSince = undefined;
      if (other === name) sight.usedSince = now;
    }
  }

  #best(fits: (sight: Sight, name: string) => boolean): string | undefined {
    const fitting = [...this.#sights].filter(([name, sight]) => fits(sight, name));
    if (this.#ranking === "nearest")
      fitting.sort(([, left], [, right]) => (left.roundTripMs ?? Infinity) - (right.roundTripMs ?? Infinity));
    return fitting[0]?.[0];
  }

  #isBetter(name: string, than: string): boolean {
    if (name === than) return false;
    if (this.#ranking === "listed") {
      const names = [...this.#sights.keys()];
      return names.indexOf(name) < names.indexOf(than);
    }
    const mine = this.#sights.get(name)?.roundTripMs;
    const its = this.#sights.get(than)?.roundTripMs;
    return mine !== undefined && its !== undefined && mine <= NEARER_SHARE * its && its - mine >= NEARER_MS;
  }
}

const unseen = (now: Millis): Sight => ({
  ...{ askedAt: -Infinity, unanswered: undefined, beyond: { known: false, unanswered: undefined } },
  ...{ upSince: undefined, betterSince: undefined, roundTripMs: undefined, usedSince: now, holdMs: HOLD_MS },
});

const oneMore = (before: Unanswered | undefined, now: Millis): Unanswered => ({
  since: before?.since ?? now,
  count: (before?.count ?? 0) + 1,
});

/** A resolver that never answered raises no doubts. */
const isDoubted = ({ unanswered, beyond }: Sight): boolean =>
  unanswered !== undefined || (beyond.known && beyond.unanswered !== undefined);

const isFor = (unanswered: Unanswered | undefined, least: number, duration: Millis, now: Millis): boolean =>
  unanswered !== undefined && unanswered.count >= least && now - unanswered.since >= duration;

function failure({ unanswered, beyond }: Sight, now: Millis): "silent" | "cut-off" | undefined {
  if (isFor(unanswered, SILENT_ASKED_MIN, SILENT_MS, now)) return "silent";
  return beyond.known && isFor(beyond.unanswered, CUT_OFF_ASKED_MIN, CUT_OFF_MS, now) ? "cut-off" : undefined;
}

const isUp = (sight: Sight, now: Millis): boolean => sight.upSince !== undefined && failure(sight, now) === undefined;
