import { networkSettings, settingsRequest } from "../../wire/adminapi.js";
import type { ApiParts } from "./parts.js";
import { type Route, route } from "./route.js";

export function settingsRoutes({ membership }: ApiParts): Route[] {
  return [
    route({
      method: "GET",
      path: "/settings",
      summary: "What holds for the whole network",
      scope: "settings:read",
      answer: networkSettings,
      run: () => membership.settings(),
    }),
    route({
      method: "PATCH",
      path: "/settings",
      summary: "Decide what holds for the whole network; devices that are in stay in",
      scope: "settings:write",
      body: settingsRequest,
      answer: networkSettings,
      run: ({ body, caller }) => membership.decide(body, caller),
    }),
  ];
}
