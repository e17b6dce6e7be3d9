import { must, type Place } from "./places.js";

/** How many WireGuard messages of each type crossed a place's wire, counted by its kernel. */
export type WireCount = {
  readonly initiations: number;
  /** Those among them whose mac2 is filled in: a cookie was at hand. */
  readonly proven: number;
  readonly responses: number;
  readonly cookieReplies: number;
  readonly transports: number;
};

// Offsets in bits from the UDP header: the type is the first word of 64 on; mac2 lies at byte 132 of an initiation.
const RULES: Record<keyof WireCount, string> = {
  initiations: "@th,64,32 0x01000000",
  proven: "@th,64,32 0x01000000 @th,1120,64 != 0",
  responses: "@th,64,32 0x02000000",
  cookieReplies: "@th,64,32 0x03000000",
  transports: "@th,64,32 0x04000000",
};

/** Counts from here on; `match` narrows what is counted, in nftables' words. */
export async function countWire(place: Place, match = ""): Promise<void> {
  const chain = (name: string, hook: string, interfaceWord: string): string => `
  chain ${name} {
    type filter hook ${hook} priority raw;
${Object.entries(RULES)
  .map(([kind, rule]) => `    ${interfaceWord} "wire" meta l4proto udp ${match} ${rule} counter name ${name}${kind}`)
  .join("\n")}
  }`;
  const counters = ["in", "out"].flatMap((name) => Object.keys(RULES).map((kind) => `  counter ${name}${kind} {}`));
  const table = `table inet wirecount {\n${counters.join("\n")}${chain("in", "prerouting", "iifname")}${chain("out", "output", "oifname")}\n}`;
  await must(place, "nft -f -", `table inet wirecount {}\ndelete table inet wirecount\n${table}\n`);
}

export async function wireCount(place: Place, direction: "in" | "out"): Promise<WireCount> {
  const { nftables } = JSON.parse(await must(place, "nft -j list counters table inet wirecount")) as {
    nftables: { counter?: { name: string; packets: number } }[];
  };
  const of = (kind: keyof WireCount): number =>
    nftables.find(({ counter }) => counter?.name === `${direction}${kind}`)?.counter?.packets ?? 0;
  return {
    initiations: of("initiations"),
    proven: of("proven"),
    responses: of("responses"),
    cookieReplies: of("cookieReplies"),
    transports: of("transports"),
  };
}
