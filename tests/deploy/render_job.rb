# Renders the templates of a BOSH job as the Director does.
#
# Reads from standard input an object with "job" (its directory), "properties" (as in a manifest), "links" (name of a
# link to the properties of its provider) and "spec" (facts of the instance). Writes an object with the "files" by
# their path below the job's directory on a VM, or with the "error" that ends the deployment. With the argument "yaml" it
# writes the YAML file on standard input as JSON.
#
# What p, if_p and if_link do follows bosh-template's evaluation context: a template sees the properties alone that
# its spec lists, and nil is as absent.

require "erb"
require "json"
require "ostruct"
require "yaml"

class UnknownProperty < StandardError
end

class ElseBlock
  def initialize(context, is_wanted)
    @context, @is_wanted = context, is_wanted
  end

  def else
    yield if @is_wanted
  end

  def else_if_p(*names, &block)
    @is_wanted ? @context.if_p(*names, &block) : self
  end

  def else_if_link(name, &block)
    @is_wanted ? @context.if_link(name, &block) : self
  end
end

class Properties
  def initialize(values)
    @values = values
  end

  def p(names, *default)
    found = Array(names).map { |name| find(name) }.find { |value| !value.nil? }
    return found unless found.nil?
    return default.first unless default.empty?
    raise UnknownProperty, "Can't find property '#{Array(names).join("', or '")}'"
  end

  def if_p(*names)
    values = names.map { |name| find(name) }
    return ElseBlock.new(self, true) if values.any?(&:nil?)
    yield(*values)
    ElseBlock.new(self, false)
  end

  def find(name)
    name.split(".").reduce(@values) { |value, part| value.is_a?(Hash) ? value[part] : nil }
  end
end

class Context < Properties
  attr_reader :spec

  def initialize(values, links, spec)
    super(values)
    @links, @spec = links, spec
  end

  def link(name)
    @links.key?(name) ? Properties.new(@links[name]) : raise(UnknownProperty, "Can't find link '#{name}'")
  end

  def if_link(name)
    return ElseBlock.new(self, true) unless @links.key?(name)
    yield link(name)
    ElseBlock.new(self, false)
  end

  def render(text)
    ERB.new(text, trim_mode: "-").result(binding)
  end
end

# Gives the values of a job's properties: those of the manifest, else the defaults.
def effective(described, given)
  given = Properties.new(given)
  described.each_with_object({}) do |(name, about), values|
    value = given.find(name)
    value = about["default"] if value.nil?
    *parents, last = name.split(".")
    parents.reduce(values) { |below, part| below[part] ||= {} }[last] = value
  end
end

def render_job(wanted)
  job = wanted.fetch("job")
  about = YAML.safe_load(File.read("#{job}/spec"))
  unknown_links = wanted.fetch("links").keys - about.fetch("consumes", []).map { |each| each["name"] }
  raise "no such links: #{unknown_links.join(", ")}" unless unknown_links.empty?
  values = effective(about.fetch("properties"), wanted.fetch("properties"))
  context = Context.new(values, wanted.fetch("links"), OpenStruct.new(wanted.fetch("spec")))
  templates = about.fetch("templates").map { |source, path| ["#{job}/templates/#{source}", path] }
  [*templates, ["#{job}/monit", "monit"]].to_h { |source, path| [path, context.render(File.read(source))] }
end

if ARGV == ["yaml"]
  puts JSON.generate(YAML.safe_load($stdin.read, aliases: true))
else
  wanted = JSON.parse($stdin.read)
  begin
    puts JSON.generate("files" => render_job(wanted))
  rescue StandardError => error
    puts JSON.generate("error" => error.message)
  end
end
