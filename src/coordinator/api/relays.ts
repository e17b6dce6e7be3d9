import * as z from "zod";
import { Failure } from "../../kit/failure.js";
import { relayInfo, relayRequest } from "../../wire/adminapi.js";
import { remoteRelay } from "../../wire/coordinatorconfig.js";
import { parseWith } from "../../wire/schema.js";
import type { ApiParts } from "./parts.js";
import { type Route, route } from "./route.js";

export function relayRoutes({ relays, switchboard, log }: ApiParts): Route[] {
  return [
    route({
      method: "GET",
      path: "/relays",
      summary: "The network's relays",
      scope: "relays:read",
      answer: z.object({ relays: z.array(relayInfo) }),
      run: () => ({ relays: relays.describe() }),
    }),
    route({
      method: "PUT",
      path: "/relays/:name",
      summary: "Add a relay on another machine, or replace the one of that name",
      scope: "relays:write",
      body: relayRequest,
      answer: relayInfo,
      async run({ param, body, caller, created }) {
        const name = param("name");
        const relay = parseWith(remoteRelay, { ...body, name }, "the request for a relay");
        if (await relays.add(relay, caller)) {
          switchboard.relaysChanged();
          log?.info("relay added", { name, url: relay.url });
          created();
        }
        const info = relays.describe().find((one) => one.name === name);
        if (info === undefined) throw new Failure("relay-unknown", `no relay is called "${name}"`);
        return info;
      },
    }),
    route({
      method: "DELETE",
      path: "/relays/:name",
      summary: "Take a relay out of the map",
      scope: "relays:write",
      async run({ param, caller }) {
        await relays.remove(param("name"), caller);
        switchboard.relaysChanged();
        return undefined;
      },
    }),
  ];
}
