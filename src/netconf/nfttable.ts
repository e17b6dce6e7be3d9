import { toHex, utf8 } from "../kit/bytes.js";
import { sha256 } from "../kit/sha256.js";

/** A table of ours in nftables: replaced whole, and known again by its mark and its number of rules. */
export type NftTable = { readonly name: string; readonly chains: readonly NftChain[] };

/** `hook`: what follows `type`. */
export type NftChain = { readonly name: string; readonly hook: string; readonly rules: readonly string[] };

/** The first two lines make sure that there is one to delete. */
export function renderTable(table: NftTable): string {
  const { name, chains } = table;
  const chainText = (chain: NftChain): string =>
    `  chain ${chain.name} {
    type ${chain.hook}; policy accept;
${chain.rules.map((rule) => `    ${rule}\n`).join("")}  }
`;
  return `table inet ${name}
delete table inet ${name}
table inet ${name} {
  comment "${markOf(table)}"
${chains.map(chainText).join("")}}
`;
}

export type ObservedTable = { readonly mark: string; readonly rules: number };

/** Out of what \`nft list table\` prints. */
export function readTable(listing: string): ObservedTable {
  const lines = listing.split("\n").map((line) => line.trim());
  const rules = lines.filter((line) => line !== "" && !/^(table |chain |type |comment |\})/.test(line));
  return { mark: /^\s*comment "([^"]*)"$/m.exec(listing)?.[1] ?? "", rules: rules.length };
}

/** Somebody may have flushed a chain and left the mark. */
export const isTable = (table: NftTable, observed: ObservedTable | undefined): boolean =>
  observed?.mark === markOf(table) && observed.rules === table.chains.reduce((sum, { rules }) => sum + rules.length, 0);

/** Stands in the table as its comment, of 128 characters at most: an equal mark is an equal table. */
const markOf = ({ chains }: NftTable): string =>
  `exitnode: ${toHex(sha256(utf8(JSON.stringify(chains)))).slice(0, 32)}`;
