/** Swagger UI on the live spec. Same origin, so the login's cookie goes with every request; nothing is sent elsewhere. */
import { mount } from 'svelte';
import 'swagger-ui-dist/swagger-ui.css';
import '../app.css';
import './docs.css';
import SwaggerUI from 'swagger-ui-dist/swagger-ui-es-bundle.js';
import Docs from './Docs.svelte';

const target = document.getElementById('app');
if (target) mount(Docs, { target, props: { show } });

function show(domNode: HTMLElement): void {
  SwaggerUI({
    url: '/openapi.json',
    domNode,
    deepLinking: true,
    displayRequestDuration: true,
    docExpansion: 'list',
    defaultModelsExpandDepth: 0,
    filter: true,
    persistAuthorization: false,
    validatorUrl: null,
    requestInterceptor: (request: object) => ({ ...request, credentials: 'same-origin' }),
  });
}
