function __bsess_complete
    set -l words (commandline -opc) (commandline -ct)
    _BSESS_COMPLETE=fish command bsess $words[2..-1] 2>/dev/null
end
complete --command bsess --no-files --arguments '(__bsess_complete)'
