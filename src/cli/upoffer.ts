import { join } from "node:path";
import YAML from "yaml";
import { Failure } from "../kit/failure.js";
import { cidrLength, familyOf, tryCidr } from "../kit/ip.js";
import { type AgentConfig, agentConfig, DEVICE_FILES } from "../wire/agentconfig.js";
import { parseWith } from "../wire/schema.js";
import type { Call, Parts } from "./command.js";

/** The networks behind this device that others may be let into: `up --advertise 192.168.1.0/24`. */

export type Offer = { readonly networks: readonly string[]; readonly masquerade: boolean };

/** Undefined where nothing is said of it; an empty list takes back what was offered. */
export function offerFrom(options: Call["options"]): Offer | undefined {
  const { advertise, snat } = options;
  if (typeof advertise !== "string") {
    if (snat !== false) return undefined;
    throw new Failure("usage", "--no-snat is about the networks of --advertise, and there are none", {
      advice: "exitnode up --advertise 192.168.1.0/24 --no-snat",
    });
  }
  const networks = advertise === "none" ? [] : advertise.split(",").map((one) => one.trim());
  for (const network of networks) refuseImpossible(network);
  return { networks, masquerade: snat !== false };
}

/** What is no network at all is refused with the rest of the configuration. */
function refuseImpossible(text: string): void {
  const network = tryCidr(text);
  if (network === undefined) return;
  if (cidrLength(network) === 0)
    throw new Failure(
      "usage",
      `${text} is the whole Internet: exit nodes offer it, and a device the networks behind it`,
      {
        advice: "exitnode create             (an exit node)\nexitnode up --advertise 192.168.1.0/24",
      },
    );
  if (familyOf(network) === 6)
    throw new Failure(
      "usage",
      `${text} is IPv6, and only IPv4 networks can be offered: a machine that forwards IPv6 stops listening to its own router, and would lose its own way out`,
      { advice: "exitnode up --advertise 192.168.1.0/24" },
    );
}

export function withOffer(config: AgentConfig, offer: Offer | undefined): AgentConfig {
  if (offer === undefined) return config;
  const { advertise: _, masquerade: __, ...rest } = config;
  if (offer.networks.length === 0) return rest;
  const offered = { advertise: offer.networks, ...(offer.masquerade ? {} : { masquerade: false }) };
  return parseWith(agentConfig, { ...rest, ...offered }, "the networks to offer", "usage");
}

/** True when the configuration is another one now: the agent reads it at its start. */
export async function writeOffer(parts: Parts, known: AgentConfig, offer: Offer | undefined): Promise<boolean> {
  const config = withOffer(known, offer);
  const isNews =
    [known.advertise?.join() ?? "", known.masquerade].join() !==
    [config.advertise?.join() ?? "", config.masquerade].join();
  if (isNews) await parts.files.write(join(parts.paths.etc, DEVICE_FILES.config), YAML.stringify(config));
  return isNews;
}

/** What is to be done about it, in words; none where nothing is offered. */
export function describeOffer(offer: Offer | undefined, name: string): string[] {
  if (offer === undefined || offer.networks.length === 0) return [];
  return [
    `offers ${offer.networks.join(", ")}; where the network is administered:`,
    ...offer.networks.map((network) => `  exitnode route approve ${name} ${network}`),
  ];
}
