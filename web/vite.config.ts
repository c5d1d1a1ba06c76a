import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// One script, one style sheet, no inlined data: the server's policy allows nothing else.
export default defineConfig({
  plugins: [react()],
  base: "./",
  build: {
    outDir: "../src/diptych/service/page",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8000" } },
});
