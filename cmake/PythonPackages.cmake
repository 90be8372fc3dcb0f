# The directory of an installed Python package, found without importing it; empty if it is missing.
function(python_package_directory package result)
  execute_process(
    COMMAND
      "${Python_EXECUTABLE}" -c
      "import importlib.util as u; s = u.find_spec('${package}'); \
print(list(s.submodule_search_locations)[0] if s else '', end='')"
    OUTPUT_VARIABLE directory ERROR_QUIET)
  set(${result} "${directory}" PARENT_SCOPE)
endfunction()

# The version of an installed distribution; empty if it is missing.
function(python_distribution_version distribution result)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
            "import importlib.metadata as m; print(m.version('${distribution}'), end='')"
    OUTPUT_VARIABLE version ERROR_QUIET)
  set(${result} "${version}" PARENT_SCOPE)
endfunction()
