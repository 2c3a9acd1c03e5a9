Register-ArgumentCompleter -Native -CommandName bsess -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
    if (-not $wordToComplete) { $words += '""' }
    $Env:_BSESS_COMPLETE = 'powershell'
    try {
        & (Get-Command bsess -CommandType Application | Select-Object -First 1) @words 2>$null | ForEach-Object {
            $value, $help = $_ -split "`t", 2
            if (-not $help) { $help = $value }
            [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
        }
    } finally {
        Remove-Item Env:_BSESS_COMPLETE
    }
}
