import type { Endpoint } from "../kit/endpoint.js";
import { asFailure, Failure } from "../kit/failure.js";
import type { Cidr } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import type { AgentConfig } from "../wire/agentconfig.js";
import type { AgentRequest, AgentStatus, AgentValue } from "../wire/agentsocket.js";
import type { MapPeer, NetworkMap } from "../wire/map.js";
import type { Backend, InterfaceState } from "../wireguard/interface.js";
import type { AgentParts } from "./agentparts.js";
import { answering } from "./answering.js";
import type { ControlClient } from "./control.js";
import { exitOf, wantInterface } from "./desired.js";
import { candidates } from "./endpoints.js";
import { Exits } from "./exits/exits.js";
import { checkWish, type Wish, wishIn } from "./exits/wish.js";
import { keepFilter, setFilter } from "./filter.js";
import { Gate } from "./gate.js";
import { Greeting } from "./greeting.js";
import { type Identity, loadIdentity } from "./identity.js";
import { latestOnly } from "./latest.js";
import { openControl } from "./line.js";
import { answerLock, lockStatus, refuseKept } from "./lockdesk.js";
import { type Memory, nothing, recall, rememberHeard, rememberRelays, rememberWish } from "./memory.js";
import { Lookups } from "./names/lookups.js";
import { netcheck } from "./netcheck.js";
import { clearNetwork, setNetwork } from "./network.js";
import { ping } from "./pingpeer.js";
import { Searches } from "./searches.js";
import { describeStatus, type Line } from "./statusreport.js";
import { withheld, withReachable } from "./subnets.js";
import { Traversal } from "./traversal.js";
import { seenFrom } from "./whoami.js";

/** How often the machine's addresses are looked at, and the peers that are talked to. */
export const BEAT_MS: Millis = 1_000;
/** How often the other peers are looked at, for endpoints that do not answer. */
export const LOOK_INTERVAL_MS: Millis = 2 * BEAT_MS;
/** How often an exit node asks for its public addresses. */
const SEEN_INTERVAL_MS: Millis = 5 * 60_000;

/** A device of the network: keeps its interface and routes as the map and the user's choice want them. */
export class Agent {
  readonly #parts: AgentParts;
  readonly #config: AgentConfig;
  readonly #stop = new AbortController();
  readonly #searches = new Searches();
  readonly #exits: Exits;
  readonly #lookups: Lookups;
  readonly #reconcile = latestOnly(() => this.#makeItSo());
  #identity: Identity | undefined;
  #memory: Memory = nothing();
  #mapAt: Millis | undefined;
  #line: Line = { connected: false, reason: "not tried yet" };
  #backend: Backend | undefined;
  #gate: Gate | undefined;
  #traversal: Traversal | undefined;
  #greeting = new Greeting(false, {}, 0);
  #control: ControlClient | undefined;
  #failure: Failure | undefined;
  /** Why the machine does not match the map, as the last try told; tried again until it does. */
  #trouble: string | undefined;

  constructor(parts: AgentParts, config: AgentConfig) {
    this.#parts = parts;
    this.#config = config;
    this.#exits = new Exits(parts);
    this.#lookups = new Lookups(parts);
  }

  /** Works until `signal` aborts, a shutdown is asked for, or the data plane fails for good. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, files, folders, log } = this.#parts;
    const stop = (): void => this.#stop.abort();
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    this.#identity = await loadIdentity(files, this.#parts.random, folders.var);
    this.#memory = await recall(files, folders.var, this.#identity.lock.key);
    this.#exits.want(this.#memory.wish, this.#memory.map);
    if (this.#memory.altered) log.warn("the map on disk is not as the coordinator sealed it: starting without one");
    this.#greeting = new Greeting(this.#config.role === "exit-node", this.#memory.heard, clock.now());
    this.#backend = await this.#openBackend();
    this.#gate = new Gate(this.#backend, this.#parts.forgetFlows);
    log.info("data plane open", { kind: this.#backend.kind });
    this.#traversal = this.#openTraversal(this.#identity, this.#backend);
    if (this.#memory.map !== undefined) await this.#try(this.#apply(this.#memory.map));
    this.#parts.ready();
    // What breaks one of them ends all, in order.
    const broken = (error: unknown): void => {
      this.#failure ??= asFailure(error);
      stop();
    };
    const { paths } = this.#traversal;
    const switched = (): void => void this.#try(this.#reconcile());
    const exits = this.#exits.watch(paths, () => this.#pause(BEAT_MS), switched);
    const tasks = [exits, this.#talk(this.#identity, this.#traversal), this.#beat(this.#traversal), this.#askSeen()];
    await Promise.all(tasks.map((task) => task.catch(broken)));
    await this.#traversal.stop();
    await this.#leave();
    log.info("stopped", { at: clock.wall() });
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Answers one request of the local socket. */
  answer(value: unknown): Promise<unknown> {
    return answering(value, (request) => this.#act(request));
  }

  async #act(request: AgentRequest): Promise<AgentValue> {
    switch (request.do) {
      case "netcheck":
        return netcheck(this.#started(), this.#parts.fetchText, this.#whoamiUrls());
      case "ping":
        return ping(this.#started(), this.#memory.map?.peers ?? [], request.peer);
      case "status":
        return this.#status();
      case "whoami":
        return seenFrom(this.#parts.fetchText, this.#whoamiUrls());
      case "use":
        return this.#use(wishIn(request.exit, request.others, request.dns));
      case "canaries":
        return { seen: this.#lookups.canaries(request.name) };
      case "rotate":
        this.#identity?.wireguard.begin();
        this.#control?.greetAgain();
        return undefined;
      case "shutdown":
        this.#stop.abort();
        return undefined;
      default:
        return answerLock(this.#memory.lock, this.#identity?.lock, request, () => this.#follow([]));
    }
  }

  #started(): Traversal {
    if (this.#traversal !== undefined) return this.#traversal;
    throw new Failure("agent-starting", "the agent has just been started", { advice: "exitnode status" });
  }

  async #use(wish: Wish): Promise<AgentStatus> {
    refuseKept(this.#memory.lock, wish, this.#memory.map);
    checkWish(wish, this.#memory.map);
    this.#exits.want(wish, this.#memory.map);
    this.#wakeExit(); // before the routes, which take longer than a relay's dial
    await rememberWish(this.#parts.files, this.#parts.folders.var, wish, this.#exits.choice);
    await this.#reconcile();
    return this.#status();
  }

  async #status(): Promise<AgentStatus> {
    const { map, lock } = this.#memory;
    const { choice } = this.#exits;
    const { clock, version } = this.#parts;
    const now = clock.now();
    const held = map === undefined ? undefined : { map, ageMs: now - (this.#mapAt ?? now) };
    const state = await this.#backend?.state().catch(() => undefined);
    const kind = this.#backend?.kind ?? "userspace";
    const unused = map === undefined ? [] : withheld(map, this.#networks());
    const warnings = [...[this.#trouble, lock.trouble].filter((words) => words !== undefined), ...unused];
    const paths = this.#traversal;
    const status = describeStatus(this.#config, kind, version, this.#line, held, choice, state, warnings, paths);
    return {
      ...status,
      ...this.#exits.describe(status.exit),
      ...this.#lookups.status,
      ...lockStatus(lock, this.#identity?.lock),
      ...(this.#identity === undefined ? {} : { publicKey: this.#identity.wireguard.used }),
    };
  }

  async #openBackend(): Promise<Backend> {
    const { dataPlane } = this.#config;
    const kernel = dataPlane === "kernel" || (dataPlane === "auto" && (await this.#parts.probeKernel()));
    return this.#parts.openBackend(kernel ? "kernel" : "userspace", (failure) => {
      this.#failure = failure;
      this.#stop.abort();
    });
  }

  #openTraversal(identity: Identity, backend: Backend): Traversal {
    const { files, folders } = this.#parts;
    const traversal = new Traversal(this.#parts, this.#config, identity, {
      onReport: (report) => this.#control?.report(report),
      onCall: (to, probe) => this.#control?.call(to, probe),
      onRelays: (known) => void this.#try(rememberRelays(files, folders.var, known)),
    });
    traversal.attach(backend);
    traversal.relays.recall(this.#memory.relays);
    return traversal;
  }

  async #talk(identity: Identity, traversal: Traversal): Promise<void> {
    this.#control = await openControl(this.#parts, this.#config, identity, traversal, this.#networks(), this.#memory, {
      onMap: (gone) => {
        this.#mapAt = this.#parts.clock.now();
        return this.#follow(gone);
      },
      onRekeyed: () => {
        this.#greeting.rekeyed(undefined, this.#memory.map, this.#parts.clock.now());
        void this.#try(this.#reconcile());
      },
      onLine: (line) => {
        this.#line = line;
      },
    });
    await this.#control.run(this.#stop.signal);
  }

  /** The newest map, as far as the lock lets it. Fulfilled when who is gone is shut out; the rest follows in its time. */
  async #follow(gone: readonly MapPeer[]): Promise<void> {
    const { lock, atlas, map: before } = this.#memory;
    if (atlas.map === undefined) return;
    const later = lock.prepare(atlas.map)?.then(() => this.#try(this.#follow([])));
    if (later !== undefined) return gone.length > 0 ? this.#gate?.expel(gone) : later;
    const map = lock.judge(atlas.map);
    const out = [...gone, ...lock.bars(before?.peers ?? [])];
    this.#greeting.rekeyed(before ?? map, map, this.#parts.clock.now());
    this.#memory.map = map;
    this.#gate?.admit(map.peers);
    const shut = this.#gate?.expel(out);
    const applied = this.#try(this.#apply(map));
    return out.length > 0 ? shut : applied;
  }

  /** The ways first: WireGuard calls as soon as it is told, and whoever carries its call should be there. */
  async #apply(map: NetworkMap): Promise<void> {
    this.#exits.follow(map);
    await this.#traversal?.setMap(map, this.#config.role === "exit-node" ? this.#greeting.heard : {});
    await this.#reconcile();
    this.#wakeExit();
    for (const peer of map.peers) if (this.#greeting.calls(peer)) this.#traversal?.paths.wake(peer.publicKey);
  }

  /** The exit in use is looked for whether or not there is traffic yet. */
  #wakeExit(): void {
    const { map } = this.#memory;
    const exit = map === undefined ? undefined : exitOf(map, this.#exits.choice);
    if (exit !== undefined) this.#traversal?.paths.wake(exit.publicKey);
  }

  async #makeItSo(): Promise<void> {
    const { map: told } = this.#memory;
    const { choice } = this.#exits;
    if (told === undefined || this.#gate === undefined || this.#identity === undefined) return;
    if (this.#stop.signal.aborted) return;
    const networks = this.#networks();
    const map = withReachable(this.#traversal?.fitted(told) ?? told, networks);
    const endpointOf = (peer: MapPeer): Endpoint | undefined => {
      const search = (): Endpoint | undefined => this.#searches.pick(peer, this.#candidates(peer, networks));
      return this.#traversal?.endpointOf(peer, search);
    };
    const want = wantInterface(this.#config, this.#identity.wireguard.privateKey, map, choice, endpointOf);
    await setFilter(this.#parts.exec, this.#config.interface, map.filter);
    await this.#gate.set(this.#greeting.apply(want));
    const resolver = await this.#lookups.follow(this.#config, map, choice);
    await setNetwork(this.#parts, this.#config, map, choice, resolver, networks);
    await this.#lookups.settle();
    this.#trouble = undefined;
  }

  /** What goes wrong while working is said in `status` and tried again; it does not end the agent. */
  async #try(work: Promise<unknown>): Promise<void> {
    await work.catch((error: unknown) => {
      const { code, message } = asFailure(error);
      this.#trouble = message;
      this.#parts.log.error("cannot make the machine match the map", { code, message });
    });
  }

  /** Once a second: has the machine moved, what do those do that are talked to, and is an endpoint silent for long? */
  async #beat(traversal: Traversal): Promise<void> {
    for (let beat = 1; await this.#pause(BEAT_MS); beat++) {
      const isLook = (beat * BEAT_MS) % LOOK_INTERVAL_MS === 0;
      if (this.#identity?.wireguard.follow(this.#memory.map?.self, this.#parts.clock)) this.#control?.greetAgain();
      const move = traversal.look();
      if (move === "elsewhere") this.#exits.moved();
      if (move === "elsewhere") this.#control?.moved();
      else if (move === "more") this.#control?.hurry();
      if (move !== "none" || (isLook && (this.#trouble !== undefined || (await this.#lookups.moved()))))
        await this.#try(this.#reconcile());
      await this.#try(keepFilter(this.#parts.exec, this.#config.interface, this.#memory.map, beat));
      if (!isLook && !traversal.paths.isTalking()) continue;
      const state = await this.#backend?.state().catch(() => undefined);
      // Somebody has deleted the interface, or it cannot be read: made anew, or said in status.
      if (state === undefined && isLook && this.#trouble === undefined) await this.#try(this.#reconcile());
      if (state === undefined) continue;
      traversal.observe(state);
      this.#exits.observe(state);
      this.#wakeExit();
      if (isLook) await this.#look(state, traversal);
    }
  }

  /** Peers whose endpoint stays silent get their next one, where a handshake is all that can be asked of them. */
  async #look(state: InterfaceState, traversal: Traversal): Promise<void> {
    const { map } = this.#memory;
    if (map === undefined) return;
    const now = this.#parts.clock.now();
    const networks = this.#networks();
    const searched = map.peers.filter(({ publicKey }) => traversal.isSearched(publicKey));
    const count = (peer: MapPeer): number => this.#candidates(peer, networks).length;
    const moved = this.#searches.look(searched, state, exitOf(map, this.#exits.choice), now, count);
    if (this.#greeting.note(state))
      await this.#try(rememberHeard(this.#parts.files, this.#parts.folders.var, this.#greeting.heard));
    if (this.#greeting.ends(now) || moved || traversal.wantsAnew()) await this.#try(this.#reconcile());
  }

  #candidates(peer: MapPeer, networks: readonly Cidr[]): Endpoint[] {
    const heard = this.#greeting.of(peer);
    return [...(heard === undefined ? [] : [heard]), ...candidates(peer.endpoints, networks)];
  }

  /** An exit node tells the coordinator how the world sees it. */
  async #askSeen(): Promise<void> {
    do {
      if (this.#config.role === "exit-node")
        this.#traversal?.setSeen(await seenFrom(this.#parts.fetchText, this.#whoamiUrls()));
    } while (await this.#pause(SEEN_INTERVAL_MS));
  }

  #whoamiUrls(): readonly string[] {
    const told = this.#memory.map?.whoami ?? [];
    return told.length > 0 ? told : this.#config.whoami;
  }

  #networks(): Cidr[] {
    const near = this.#parts.netInfo().addresses.filter((address) => address.interface !== this.#config.interface);
    return near.map(({ network }) => network);
  }

  /** False when it is time to stop. */
  async #pause(duration: Millis): Promise<boolean> {
    await this.#parts.clock.sleep(duration, this.#stop.signal).catch(() => undefined);
    return !this.#stop.signal.aborted;
  }

  /**
   * An exit node's interface outlives its agent (a restart or an upgrade loses no packet under kernel WireGuard);
   * a person's machine gets its routing back.
   */
  async #leave(): Promise<void> {
    // What is being set at this moment would come after the clearing.
    await this.#try(this.#reconcile());
    if (this.#config.role === "exit-node" && this.#backend?.kind === "kernel") return;
    await clearNetwork(this.#parts, this.#config).catch((error: unknown) => {
      this.#parts.log.error("the machine's routing was not restored", { message: asFailure(error).message });
    });
    await this.#lookups.close();
    await this.#backend?.close();
  }
}
