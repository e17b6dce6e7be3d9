import type * as z from "zod";
import { domainName, type MapNames, mapNames, namesRequest, recordRequest, splitRequest } from "../../wire/names.js";
import { parseWith } from "../../wire/schema.js";
import type { ApiParts } from "./parts.js";
import { type Route, route } from "./route.js";

export function nameRoutes({ names, switchboard, log }: ApiParts): Route[] {
  const told = async (change: Promise<MapNames>): Promise<MapNames> => {
    const before = names.map;
    const after = await change;
    if (after !== before) {
      switchboard.changed();
      log?.info("names changed", { domain: after.domain, records: after.records.length, split: after.split.length });
    }
    return after;
  };
  const nameIn = (text: string): z.infer<typeof domainName> => parseWith(domainName, text, "the name in the path");
  return [
    route({
      method: "GET",
      path: "/names",
      summary: "The network's domain, extra records and resolvers",
      scope: "names:read",
      answer: mapNames,
      run: () => names.map,
    }),
    route({
      method: "PATCH",
      path: "/names",
      summary: "Change the network's domain, or the resolvers that every device asks; what is left out stays",
      scope: "names:write",
      body: namesRequest,
      answer: mapNames,
      run: ({ body, caller }) => told(names.set(body, caller)),
    }),
    route({
      method: "PUT",
      path: "/names/records/:name",
      summary: "Give a name that is no device's its addresses; without a dot it is in the network's domain",
      scope: "names:write",
      body: recordRequest,
      answer: mapNames,
      run: ({ param, body, caller }) => told(names.setRecord(nameIn(param("name")), body.addresses, caller)),
    }),
    route({
      method: "DELETE",
      path: "/names/records/:name",
      summary: "Take an extra record away",
      scope: "names:write",
      async run({ param, caller }) {
        await told(names.removeRecord(nameIn(param("name")), caller));
        return undefined;
      },
    }),
    route({
      method: "PUT",
      path: "/names/split/:domain",
      summary: "Send look-ups below a domain to resolvers of its own",
      scope: "names:write",
      body: splitRequest,
      answer: mapNames,
      run: ({ param, body, caller }) => told(names.setSplit(nameIn(param("domain")), body.resolvers, caller)),
    }),
    route({
      method: "DELETE",
      path: "/names/split/:domain",
      summary: "Look up what is below a domain like everything else again",
      scope: "names:write",
      async run({ param, caller }) {
        await told(names.removeSplit(nameIn(param("domain")), caller));
        return undefined;
      },
    }),
  ];
}
