import { lookup } from "node:dns/promises";
import { toHex, utf8 } from "../kit/bytes.js";
import { type Family, familyOf, type Ip, parseIp } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import { localNameService } from "../sys/nameservice.js";
import { findUser } from "../sys/users.js";
import type { AgentStatus } from "../wire/agentsocket.js";
import { CANARY_DOMAIN } from "../wire/names.js";
import { askCanaries } from "./agentclient.js";
import { AGENT_USER } from "./agentfiles.js";
import type { Parts } from "./command.js";

/**
 * Whether look-ups leave beside the exit. Each question is for a name that exists nowhere else, asked as a program here
 * would: of strangers' addresses over both families, over UDP and TCP, and of the system. The kernel hands a question
 * either to the agent or to the network, so one that the agent has got has not left. Whom the agent asks in turn is
 * compared with the kernel's own routing.
 */
export type LeakTest = {
  readonly asked: readonly { readonly how: string; readonly kept: boolean }[];
  /** The device by which the agent's own questions leave, by resolver. */
  readonly onward: readonly { readonly server: Ip; readonly device: string }[];
  /** True when every look-up stays with the agent, and all of the agent's go into the tunnel. */
  readonly tight: boolean;
};

/** A question that is kept is answered at once, or soon where much else is done; one that is not, perhaps never. */
const ASK_MS: Millis = 3_000;
const TOKEN_BYTES = 8;

/** RFC 5737 and RFC 3849: nobody's addresses, which every network hands on to its router. */
const STRANGERS: { readonly [family in Family]: Ip } = { 4: parseIp("192.0.2.53"), 6: parseIp("2001:db8::53") };

/** Undefined where it has no meaning: no exit is in use, or look-ups are not answered by the agent. */
export async function leakTest(parts: Parts, status: AgentStatus): Promise<LeakTest | undefined> {
  const { exit, dns } = status;
  if (exit === undefined || dns === undefined) return undefined;
  const token = toHex(parts.random(TOKEN_BYTES));
  const families: Family[] = [];
  // A family that this machine does not speak leaks nothing.
  for (const family of [4, 6] as const)
    if ((await routeTo(parts, STRANGERS[family])) !== undefined) families.push(family);
  const ways = families.flatMap((family) =>
    (["udp", "tcp"] as const).map((over) => ({ family, over, label: `${over}${family}` })),
  );
  await Promise.all([
    ...ways.map(async ({ family, over, label }) => {
      const name = `${label}.${token}.${CANARY_DOMAIN}`;
      const server = { address: STRANGERS[family], port: 53 };
      await localNameService.ask(server, question(name), { over, timeoutMs: ASK_MS, isReply: () => true });
    }),
    within(ASK_MS, lookup(`system.${token}.${CANARY_DOMAIN}`)),
  ]);
  const { seen } = await askCanaries(parts.paths, token);
  const asked = [
    ...ways.map(({ family, over, label }) => ({
      how: `${over.toUpperCase()} over IPv${family}`,
      kept: seen.includes(label),
    })),
    { how: "by way of the system", kept: seen.includes("system") },
  ];
  const onward = await Promise.all(
    dns.servers.map(async (server) => ({ server, device: await wayTo(parts, status, server) })),
  );
  const tight = asked.every(({ kept }) => kept) && onward.every(({ device }) => device === status.interface);
  return { asked, onward, tight };
}

/** For a person: one line when all is well, else what is not. */
export function describeLeakTest({ asked, onward, tight }: LeakTest, device: string): string[] {
  const servers = onward.map(({ server }) => server).join(", ") || "nobody";
  if (tight)
    return [
      `no look-up leaves beside the exit: ${asked.length} of ${asked.length} test questions were kept, and ${servers} is asked through it`,
    ];
  return [
    ...asked
      .filter(({ kept }) => !kept)
      .map(({ how }) => `a look-up asked ${how} did not come to the agent: it may have left by this network`),
    ...onward
      .filter((one) => one.device !== device)
      .map((one) => `${one.server} is asked by ${one.device}, beside the exit: this network sees what is looked up`),
  ];
}

/** Where the kernel would send the agent's question: the agent's user, from the address that it asks from. */
async function wayTo(parts: Parts, { addresses, dns }: AgentStatus, server: Ip): Promise<string> {
  const user = await findUser(parts.files, AGENT_USER);
  const from = addresses.find((ip) => familyOf(ip) === familyOf(server));
  const source = dns?.way === "tunnel" && from !== undefined ? ["from", from] : [];
  const uid = user === undefined ? [] : ["uid", String(user.uid)];
  return (await routeTo(parts, server, ...source, ...uid)) ?? "no device";
}

async function routeTo(parts: Parts, to: Ip, ...more: readonly string[]): Promise<string | undefined> {
  const { stdout } = await parts.exec.run(["ip", "route", "get", to, ...more]);
  return / dev (\S+)/.exec(stdout)?.[1];
}

/** RFC 1035 §4.1: an A question with recursion desired. */
function question(name: string): Uint8Array {
  const labels = name.split(".").flatMap((label) => [label.length, ...utf8(label)]);
  return Uint8Array.from([0x45, 0x58, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 1, 0, 1]);
}

async function within(duration: Millis, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise((resolve) => {
    timer = setTimeout(resolve, duration);
  });
  await Promise.race([work.catch(() => undefined), over]);
  clearTimeout(timer);
}
