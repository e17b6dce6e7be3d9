import { Failure } from "../../kit/failure.js";
import type { Ip } from "../../kit/ip.js";
import type { LocalResolver } from "../../netconf/clientdns.js";
import { RESOLVER_FILES, readResolvers } from "../../netconf/resolvconf.js";
import type { Exec } from "../../sys/exec.js";
import type { Files } from "../../sys/files.js";
import type { Served } from "../../sys/listening.js";
import type { NameService } from "../../sys/nameservice.js";
import type { Random } from "../../sys/random.js";
import type { AgentConfig } from "../../wire/agentconfig.js";
import type { AgentStatus } from "../../wire/agentsocket.js";
import type { NetworkMap } from "../../wire/map.js";
import type { Choice } from "../desired.js";
import { forgetAnswers } from "./forget.js";
import { Resolver } from "./resolver.js";
import { tableOf } from "./table.js";
import { type Upstreams, upstreamsOf } from "./upstreams.js";

export type LookupsParts = {
  readonly exec: Exec;
  readonly files: Files;
  readonly random: Random;
  readonly uid: number | undefined;
  readonly nameService: NameService;
};

/** The machine's look-ups, as the map and the choice want them answered. */
export class Lookups {
  readonly #parts: LookupsParts;
  readonly #resolver: Resolver;
  #served: Served | undefined;
  #own: readonly Ip[] = [];
  #status: AgentStatus["dns"];
  /** Who answers, for what, and which way they are asked; and what that was when the machine last forgot answers. */
  #way = "";
  #wayKept = "";

  constructor(parts: LookupsParts) {
    this.#parts = parts;
    this.#resolver = new Resolver({ service: parts.nameService, random: parts.random });
  }

  /** Answers from now on as told; what look-ups are to be sent to, or undefined where they are left alone. */
  async follow(config: AgentConfig, map: NetworkMap, choice: Choice): Promise<LocalResolver | undefined> {
    this.#own = await machineResolvers(this.#parts.files);
    const upstreams = upstreamsOf(map, choice, this.#own);
    // An exit node resolves for others, and is somebody's server: it is left as it was set up.
    const isWanted = config.role === "device" && (choice.exit !== undefined || map.names !== undefined);
    const isAble = this.#parts.uid !== undefined;
    this.#status = isWanted ? describeDns(map, upstreams, choice, isAble, this.#own) : undefined;
    this.#way = isWanted && isAble ? wayOf(map, upstreams, choice) : "";
    if (this.#way === "") return undefined;
    this.#resolver.follow({
      table: tableOf(map, config.coordinator.urls, this.#own),
      upstreams,
      addresses: map.self.addresses,
    });
    this.#served ??= await this.#parts.nameService.serve((query, over) => this.#resolver.answer(query, over));
    return { port: this.#served.port, asked: this.#own };
  }

  /** To be called when look-ups go as follow() said: what came another way is forgotten. */
  async settle(): Promise<void> {
    if (this.#way === this.#wayKept) return;
    await forgetAnswers(this.#parts);
    this.#wayKept = this.#way;
  }

  /** True when the network here has other resolvers than at the last follow(). */
  async moved(): Promise<boolean> {
    return (await machineResolvers(this.#parts.files)).join() !== this.#own.join();
  }

  get status(): Pick<AgentStatus, "dns"> {
    return this.#status === undefined ? {} : { dns: this.#status };
  }

  /** The labels before `name` that were looked up, of a test for leaks. */
  canaries(name: string): string[] {
    if (this.#served !== undefined) return this.#resolver.canaries.under(name);
    throw new Failure("dns-not-ours", "look-ups are not answered by the agent now", { advice: "exitnode status" });
  }

  async close(): Promise<void> {
    await this.#served?.close();
    this.#served = undefined;
  }
}

async function machineResolvers(files: Files): Promise<Ip[]> {
  for (const path of RESOLVER_FILES) {
    const found = readResolvers((await files.readText(path).catch(() => undefined)) ?? "");
    if (found.length > 0) return found;
  }
  return [];
}

/** Another exit's resolvers may have the same addresses, and give other answers. */
function wayOf({ names }: NetworkMap, { servers, way }: Upstreams, { exit }: Choice): string {
  return JSON.stringify([exit, way, servers, names?.domain, names?.split]);
}

function describeDns(
  map: NetworkMap,
  { servers, way, choice, note }: Upstreams,
  { exit }: Choice,
  isAble: boolean,
  own: readonly Ip[],
): AgentStatus["dns"] {
  const trouble = !isAble
    ? "the agent runs as root, so that its look-ups cannot be told from the others': all are left alone"
    : exit === undefined && own.length === 0
      ? "this machine's resolvers are not known, so that names of the network are answered only while an exit is used"
      : note;
  return {
    ...(map.names === undefined ? {} : { domain: map.names.domain }),
    ...(choice === undefined ? {} : { choice }),
    ...{ servers: [...servers], way },
    ...(trouble === undefined ? {} : { note: trouble }),
  };
}
