"""A chat template in Gemma 4's format, as small as it can be: turns, thinking, tools, calls and their results.

Written for these tests after the documented format; the models' own template does the same in more words.
"""

TEMPLATE = """
{%- macro value(v) -%}
  {%- if v is string -%}<|"|>{{ v }}<|"|>
  {%- elif v is boolean -%}{{ 'true' if v else 'false' }}
  {%- elif v is mapping -%}{ {%- for k, x in v | dictsort -%}
      {{ k }}:{{ value(x) }}{{ ',' if not loop.last }}
    {%- endfor -%} }
  {%- elif v is sequence -%}[{%- for x in v -%}{{ value(x) }}{{ ',' if not loop.last }}{%- endfor -%}]
  {%- else -%}{{ v }}
  {%- endif -%}
{%- endmacro -%}
{{- bos_token -}}
{%- set first = messages[0].role == 'system' -%}
{%- if first or enable_thinking or tools -%}
  {{- '<|turn>system\\n' -}}{{- '<|think|>\\n' if enable_thinking -}}{{- messages[0].content | trim if first -}}
  {%- for tool in tools or [] -%}
    {%- set f = tool.function -%}
    <|tool>declaration:{{ f.name }}{description:<|"|>{{ f.description }}<|"|>
    {%- if f.parameters %},parameters:{{ value(f.parameters) }}{% endif -%} }<tool|>
  {%- endfor -%}
  {{- '<turn|>\\n' -}}
{%- endif -%}
{%- set last = namespace(role='', open=false) -%}
{%- for m in messages[1 if first else 0:] -%}
  {%- if m.role == 'tool' -%}
    <|tool_response>response:{{ m.name or 'unknown' }}{value:{{ value(m.content) }}}<tool_response|>
    {%- set last.open = true -%}
  {%- else -%}
    {%- if not (m.role == 'assistant' and last.open) -%}
      {{- '<|turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' -}}
    {%- endif -%}
    {%- set last.open = false -%}
    {%- if m.reasoning_content -%}{{- '<|channel>thought\\n' + m.reasoning_content + '<channel|>' -}}{%- endif -%}
    {%- for call in m.tool_calls or [] -%}
      <|tool_call>call:{{ call.function.name }}{{ value(call.function.arguments) }}<tool_call|>
    {%- endfor -%}
    {{- m.content | trim -}}
    {%- if m.tool_calls -%}{%- set last.open = true -%}{%- else -%}{{- '<turn|>\\n' -}}{%- endif -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and not last.open -%}
  {{- '<|turn>model\\n' -}}{{- '<|channel>thought\\n<channel|>' if not enable_thinking -}}
{%- endif -%}
"""
