/** How the pages are built: three documents, because each is served under its own Content-Security-Policy. */
import { readFileSync } from 'node:fs';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { type Plugin, defineConfig } from 'vite';

const BASTION = process.env.CASTELLAN_URL ?? 'http://127.0.0.1:8090';

/** Serves the documents at the paths the bastion serves them at (development only). */
function documents(): Plugin {
  return {
    name: 'castellan-documents',
    configureServer(server) {
      server.middlewares.use((request, _response, next) => {
        const path = (request.url ?? '').split('?')[0] ?? '';
        if (/^\/recordings\/[^/]+$/.test(path)) request.url = '/player.html';
        else if (path === '/docs') request.url = '/docs.html';
        next();
      });
    },
  };
}

/** Puts the chosen theme on <html> before the first paint: a file of its own, since inline scripts are forbidden. */
function earlyTheme(): Plugin {
  const source = readFileSync(new URL('./src/theme-early.js', import.meta.url), 'utf8');
  let file = '';
  return {
    name: 'castellan-early-theme',
    apply: 'build',
    buildStart() {
      file = this.emitFile({ type: 'asset', name: 'theme.js', source });
    },
    transformIndexHtml: {
      order: 'post',
      handler(_html, context) {
        const asset = Object.values(context.bundle ?? {}).find((a) => a.type === 'asset' && a.names.includes('theme.js'));
        if (!asset) throw new Error(`theme.js (${file}) is missing from the bundle`);
        return [{ tag: 'script', attrs: { src: `/${asset.fileName}` }, injectTo: 'head-prepend' }];
      },
    },
  };
}

export default defineConfig({
  plugins: [svelte(), documents(), earlyTheme()],
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1600,
    rollupOptions: { input: { app: 'index.html', player: 'player.html', docs: 'docs.html' } },
  },
  server: {
    proxy: Object.fromEntries(
      ['/api', '/openapi.json', '/healthz', '/readyz', '/.well-known'].map((path) => [path, { target: BASTION, ws: true }]),
    ),
  },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
} as Parameters<typeof defineConfig>[0]);
